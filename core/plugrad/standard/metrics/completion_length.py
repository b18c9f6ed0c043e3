"""The lengths of completions."""

from __future__ import annotations

from plugrad.contracts.measures import Max, Mean, Measure
from plugrad.contracts.metric import MetricInputs


def completion_length(inputs: MetricInputs) -> dict[str, Measure]:
    """The lengths of the completions in tokens, including the end-of-sequence token.

    Reports:
        mean: the mean.
        max: the maximum.
        truncated: the share of completions cut off at `max_new_tokens`.
    """
    rollouts = [rollout for group in inputs.rollouts for rollout in group]
    lengths = [float(len(rollout["completion_ids"])) for rollout in rollouts]
    return {
        "mean": Mean.of(lengths),
        "max": Max(max(lengths)),
        "truncated": Mean.of(float(rollout["truncated"]) for rollout in rollouts),
    }
