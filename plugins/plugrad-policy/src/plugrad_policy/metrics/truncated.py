"""The share and the rewards of truncated completions."""

from __future__ import annotations

from plugrad import Mean, Measure, MetricInputs


def truncated(inputs: MetricInputs) -> dict[str, Measure]:
    """Completions that ended at `max_new_tokens` rather than with an end-of-sequence token.

    If truncated completions earn less, the policy learns to be short, whatever the task is.

    Reports:
        share: the share of truncated completions.
        reward: their mean reward; absent if there are none.
        complete_reward: the mean reward of the other completions; absent if there are none.
        complete_length: their mean length in tokens; absent if there are none. The mean over all completions hides a
            change in it behind the limit.
    """
    rollouts = [rollout for group in inputs.rollouts for rollout in group]
    cut = [rollout["reward"] for rollout in rollouts if rollout["truncated"]]
    complete = [rollout["reward"] for rollout in rollouts if not rollout["truncated"]]
    lengths = [float(len(rollout["completion_ids"])) for rollout in rollouts if not rollout["truncated"]]
    means: dict[str, list[float]] = {"reward": cut, "complete_reward": complete, "complete_length": lengths}
    share = Mean(float(len(cut)), float(len(rollouts)))
    return {"share": share, **{name: Mean.of(values) for name, values in means.items() if values}}
