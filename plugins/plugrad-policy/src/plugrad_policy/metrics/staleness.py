"""How many updates old the policy was that sampled a token."""

from __future__ import annotations

from plugrad import Max, Mean, Measure, MetricInputs


def staleness(inputs: MetricInputs) -> dict[str, Measure]:
    """v - v_t, with v_t the number of weight updates behind token t, and v that behind the policy which learns from it.

    0 is on policy. Of several updates per batch, the second is one update late, the third two.

    Reports:
        mean: the mean over the completions' tokens.
        max: the greatest.
    """
    versions = [version for group in inputs.rollouts for rollout in group for version in rollout["policy_versions"]]
    if not versions:
        return {}
    lags = [float(inputs.policy_version - version) for version in versions]
    return {"mean": Mean.of(lags), "max": Max(max(lags))}
