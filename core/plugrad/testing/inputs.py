"""Rollouts, and the inputs of metrics, for tests of plugins: the same at every call, and nothing to write down by hand."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.metric import MetricInputs
from plugrad.contracts.rollout import Rollout

PROMPT_LENGTH = 2
LONGEST = 8
FIRST_TOKEN, LAST_TOKEN = 3, 50
NEWEST_VERSION = 3


def rollouts(
    rewards: Sequence[Sequence[float]],
    *,
    lengths: Sequence[Sequence[int]] | None = None,
    components: Sequence[Sequence[Mapping[str, float]]] | None = None,
    seed: int = 0,
) -> list[list[Rollout]]:
    """Return groups of rollouts with these rewards, for `AdvantageInputs(rollouts=...)` or `metric_inputs`.

    Tokens, log-probs and policy versions are drawn; every third completion is truncated.

    Args:
        rewards: of each group.
        lengths: of the completions, in tokens; by default between 2 and 8.
        components: of the rewards; by default each has none.
        seed: of what is drawn.
    """
    draw = random.Random(seed)
    groups: list[list[Rollout]] = []
    for i, row in enumerate(rewards):
        sizes = lengths[i] if lengths else [draw.randint(2, LONGEST) for _ in row]
        parts = components[i] if components else [{} for _ in row]
        members = zip(row, sizes, parts, strict=True)
        groups.append([_rollout(draw, (i, j), reward, size, part) for j, (reward, size, part) in enumerate(members)])
    return groups


def metric_inputs(groups: Sequence[Sequence[Rollout]], *, seed: int = 0, **fields: Any) -> MetricInputs:
    """Return the inputs of a metric for these rollouts, in float64.

    Each rollout's advantage is its reward minus the mean of its group. Log-probs of the policy, the reference and the policy
    before the update, and entropies, are drawn.

    Args:
        groups: the rollouts.
        seed: of what is drawn.
        fields: of `MetricInputs`, in place of those made here.
    """
    members = [rollout for group in groups for rollout in group]
    mask = _loss_mask(members)
    draw = torch.Generator().manual_seed(seed)

    def drawn(low: float, high: float) -> Tensor:
        values = low + (high - low) * torch.rand(mask.shape, generator=draw, dtype=torch.double)
        return torch.where(mask, values, 0.0)

    trainer_logprobs = drawn(-3, 0)
    made: dict[str, Any] = {
        "rollouts": [list(group) for group in groups],
        "rewards": torch.tensor([rollout["reward"] for rollout in members], dtype=torch.double),
        "advantages": _advantages(groups) * mask,
        "loss_mask": mask,
        "trainer_logprobs": trainer_logprobs,
        "inference_logprobs": trainer_logprobs + drawn(-0.5, 0.5),
        "group_ids": torch.tensor([i for i, group in enumerate(groups) for _ in group]),
        "entropy": drawn(0, 2),
        "old_logprobs": trainer_logprobs + drawn(-0.5, 0.5),
        "ref_logprobs": drawn(-3, 0),
        "policy_version": NEWEST_VERSION,
    }
    return MetricInputs(**{**made, **fields})


def _rollout(
    draw: random.Random, place: tuple[int, int], reward: float, length: int, components: Mapping[str, float]
) -> Rollout:
    example, index = place
    return Rollout(
        prompt=f"prompt {example}",
        completion=f"completion {index} of prompt {example}",
        prompt_ids=[draw.randrange(FIRST_TOKEN, LAST_TOKEN) for _ in range(PROMPT_LENGTH)],
        completion_ids=[draw.randrange(FIRST_TOKEN, LAST_TOKEN) for _ in range(length)],
        inference_logprobs=[draw.uniform(-3, 0) for _ in range(length)],
        reward=reward,
        reward_components=dict(components),
        truncated=(example + index) % 3 == 0,
        example={"example_id": example, "prompt": f"prompt {example}", "reference": f"answer {example}"},
        metrics={},
        policy_versions=[draw.randint(0, NEWEST_VERSION)] * length,
    )


def _loss_mask(members: Sequence[Rollout]) -> Tensor:
    starts = torch.tensor([len(rollout["prompt_ids"]) for rollout in members]).unsqueeze(1)
    ends = starts + torch.tensor([len(rollout["completion_ids"]) for rollout in members]).unsqueeze(1)
    positions = torch.arange(int(ends.max()))
    return (positions >= starts) & (positions < ends)


def _advantages(groups: Sequence[Sequence[Rollout]]) -> Tensor:
    """Return one advantage a row, `[batch, 1]`."""
    means = [sum(rollout["reward"] for rollout in group) / len(group) for group in groups]
    centred = [rollout["reward"] - mean for group, mean in zip(groups, means, strict=True) for rollout in group]
    return torch.tensor(centred, dtype=torch.double).unsqueeze(1)
