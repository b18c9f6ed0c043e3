"""Completions that were cut off, and what they earned."""

from __future__ import annotations

from plugrad import Mean, Measure, MetricInputs


def truncated(inputs: MetricInputs) -> dict[str, Measure]:
    """Completions that ended at `max_new_tokens` and not with an end-of-sequence token.

    Where the cut ones earn less, the policy learns to be short, whatever the task is.

    Reports:
        share: their share.
        reward: their mean reward; nothing where there are none.
        complete_reward: the mean reward of the others; nothing where there are none.
    """
    rollouts = [rollout for group in inputs.rollouts for rollout in group]
    cut = [rollout["reward"] for rollout in rollouts if rollout["truncated"]]
    complete = [rollout["reward"] for rollout in rollouts if not rollout["truncated"]]
    rewards: dict[str, list[float]] = {"reward": cut, "complete_reward": complete}
    share = Mean(float(len(cut)), float(len(rollouts)))
    return {"share": share, **{name: Mean.of(values) for name, values in rewards.items() if values}}
