"""How many updates ago the policy that sampled a token was current."""

from __future__ import annotations

from plugrad import Max, Mean, Measure, MetricInputs


def staleness(inputs: MetricInputs) -> dict[str, Measure]:
    """v - v_t, the weight updates behind the policy that learns from token t, minus those behind the one that sampled it.

    0 is on policy. With several updates per batch, the second is one update late and the third two.

    Reports:
        mean: the mean over the completions' tokens.
        max: the maximum.
    """
    versions = [version for group in inputs.rollouts for rollout in group for version in rollout["policy_versions"]]
    if not versions:
        return {}
    lags = [float(inputs.policy_version - version) for version in versions]
    return {"mean": Mean.of(lags), "max": Max(max(lags))}
