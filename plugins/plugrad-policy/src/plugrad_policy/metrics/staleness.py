"""How many updates old the policy was that sampled a token."""

from __future__ import annotations

from plugrad import Max, Mean, Measure, MetricInputs


def staleness(inputs: MetricInputs) -> dict[str, Measure]:
    """v_max - v_t, with v_t the number of weight updates behind token t and v_max the greatest of the batch.

    A metric is not told which version is being trained: v_max stands for it, and is that of this rank's share. What all
    tokens lag behind is therefore not seen, as with an engine that is one step late throughout; their differences are.

    Reports:
        mean: the mean over the completions' tokens.
        max: the greatest.
    """
    versions = [version for group in inputs.rollouts for rollout in group for version in rollout["policy_versions"]]
    if not versions:
        return {}
    newest = max(versions)
    lags = [float(newest - version) for version in versions]
    return {"mean": Mean.of(lags), "max": Max(max(lags))}
