"""Synthetic rollouts and inputs: the one builder behind the pre-flight, the conformance kit and the tests of plugins.

Every number comes from a generator or a seed that the caller passes. The random state of the process stays as it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.metric import MetricInputs
from plugrad.contracts.needs import SCORES
from plugrad.contracts.rollout import Rollout

PROMPT_LENGTH = 2
FIRST_TOKEN, LAST_TOKEN = 3, 50
NEWEST_VERSION = 3
LOWEST = -3.0
DRIFT = 0.5

Inputs = TypeVar("Inputs", BatchLossInputs, MetricInputs)


def make_rollout(
    draw: random.Random,
    length: int,
    *,
    prompt_length: int = PROMPT_LENGTH,
    logprobs: tuple[float, float] = (LOWEST, 0.0),
    vocabulary: int = LAST_TOKEN,
    **fields: Any,
) -> Rollout:
    """Return a rollout with drawn tokens and log-probs.

    Args:
        draw: where the numbers come from.
        length: of the completion, in tokens.
        prompt_length: in tokens.
        logprobs: the range of the engine's log-probs.
        vocabulary: every token is below this number.
        fields: replace the fields made here.
    """
    tokens = range(*_tokens_of(vocabulary))
    made: dict[str, Any] = {
        "prompt": "",
        "completion": "",
        "prompt_ids": [draw.choice(tokens) for _ in range(prompt_length)],
        "completion_ids": [draw.choice(tokens) for _ in range(length)],
        "inference_logprobs": [draw.uniform(*logprobs) for _ in range(length)],
        "reward": 0.0,
        "reward_components": {},
        "truncated": False,
        "example": {},
        "metrics": {},
        "policy_versions": [0] * length,
    }
    return Rollout(**{**made, **fields})  # type: ignore[typeddict-item]


def loss_inputs(
    lengths: Sequence[int],
    *,
    seed: int = 0,
    lowest: float = LOWEST,
    drift: float | None = DRIFT,
    vocabulary: int = LAST_TOKEN,
    **fields: Any,
) -> BatchLossInputs:
    """Return a micro-batch in float64 with every field but the logits, one row per completion length.

    Args:
        lengths: of the completions, in tokens; each prompt has two more.
        seed: of every number.
        lowest: log-probs lie between this and 0.
        drift: the largest distance, in nats, of `inference_logprobs` and `old_logprobs` from `trainer_logprobs`. With None
            they are drawn independently.
        vocabulary: every token is below this number.
        fields: replace the fields made here.
    """
    mask = completion_mask([PROMPT_LENGTH] * len(lengths), lengths)
    generator = torch.Generator().manual_seed(seed)

    def drawn(low: float, high: float) -> Tensor:
        return draw_tokens(mask, low, high, generator)

    def sampling_policy() -> Tensor:
        return drawn(lowest, 0) if drift is None else trainer_logprobs + drawn(-drift, drift)

    trainer_logprobs = drawn(lowest, 0)
    made: dict[str, Any] = {
        "trainer_logprobs": trainer_logprobs,
        "inference_logprobs": sampling_policy(),
        "teacher_logprobs": drawn(lowest, 0),
        "advantages": drawn(-1, 1),
        "loss_mask": mask,
        "old_logprobs": sampling_policy(),
        "ref_logprobs": drawn(lowest, 0),
        "entropy": drawn(0, 2),
        "old_values": drawn(-1, 1),
        "returns": drawn(-1, 1),
        "input_ids": torch.randint(*_tokens_of(vocabulary), mask.shape, generator=generator),
        "reward": torch.rand(len(lengths), generator=generator, dtype=torch.double),
        "group_ids": torch.arange(len(lengths)),
        "metadata": [{"example_id": row} for row in range(len(lengths))],
    }
    given = {**made, **fields}
    if "member" not in fields:
        given["member"] = _places(given["group_ids"].tolist())
    return BatchLossInputs(**given)


def metric_inputs(groups: Sequence[Sequence[Rollout]], *, seed: int = 0, **fields: Any) -> MetricInputs:
    """Return the inputs of a metric for these rollouts, in float64.

    Each rollout's advantage is its reward minus the mean reward of its group.

    Args:
        groups: the rollouts.
        seed: of the policy's and the reference's log-probs and of the entropy.
        fields: replace the fields made here.
    """
    rollouts = [rollout for group in groups for rollout in group]
    lengths = [(len(rollout["prompt_ids"]), len(rollout["completion_ids"])) for rollout in rollouts]
    mask = completion_mask([prompt for prompt, _ in lengths], [completion for _, completion in lengths])
    generator = torch.Generator().manual_seed(seed)

    def drawn(low: float, high: float) -> Tensor:
        return draw_tokens(mask, low, high, generator)

    trainer_logprobs = drawn(LOWEST, 0)
    made: dict[str, Any] = {
        "rollouts": [list(group) for group in groups],
        "rewards": torch.tensor([rollout["reward"] for rollout in rollouts], dtype=torch.double),
        "advantages": _centred_rewards(groups).unsqueeze(1) * mask,
        "loss_mask": mask,
        "trainer_logprobs": trainer_logprobs,
        "inference_logprobs": trainer_logprobs + drawn(-DRIFT, DRIFT),
        "group_ids": torch.tensor([i for i, group in enumerate(groups) for _ in group]),
        "entropy": drawn(0, 2),
        "old_logprobs": trainer_logprobs + drawn(-DRIFT, DRIFT),
        "ref_logprobs": drawn(LOWEST, 0),
        "values": drawn(-1, 1),
        "old_values": drawn(-1, 1),
        "returns": drawn(-1, 1),
        "policy_version": NEWEST_VERSION,
    }
    return MetricInputs(**{**made, **fields})


def _places(group_ids: Sequence[int]) -> Int[Tensor, "batch"]:
    """Return the place of each row among those of its group."""
    return torch.tensor([group_ids[:row].count(group) for row, group in enumerate(group_ids)])


def _tokens_of(vocabulary: int) -> tuple[int, int]:
    """Return the first token to draw, and one past the last. A tiny vocabulary may consist of special tokens."""
    last = min(vocabulary, LAST_TOKEN)
    return min(FIRST_TOKEN, last - 1), last


def completion_mask(prompt_lengths: Sequence[int], lengths: Sequence[int]) -> Bool[Tensor, "batch seq"]:
    """Return True at the tokens of the completions; rows are padded at the right."""
    starts = torch.tensor(prompt_lengths).unsqueeze(1)
    ends = starts + torch.tensor(lengths).unsqueeze(1)
    positions = torch.arange(int(ends.max()))
    return (positions >= starts) & (positions < ends)


def draw_tokens(
    mask: Bool[Tensor, "batch seq"], low: float, high: float, generator: torch.Generator
) -> Float[Tensor, "batch seq"]:
    """Return numbers between `low` and `high` at counted tokens and 0 elsewhere, in float64."""
    values = low + (high - low) * torch.rand(mask.shape, generator=generator, dtype=torch.double)
    return torch.where(mask, values, 0.0)


def scores_of(groups: Sequence[Sequence[Rollout]], needs: Collection[str]) -> dict[str, Any]:
    """Return made-up log-probs and values of rollouts, by those fields of `AdvantageInputs` that are needed.

    They follow from a rollout's tokens alone: in another order, rollouts keep theirs.
    """
    return {
        need: [[_score_of(rollout, need) for rollout in group] for group in groups] for need in sorted(SCORES & set(needs))
    }


def _score_of(rollout: Rollout, need: str) -> Float[Tensor, "completion"]:
    draw, (low, high) = random.Random(f"{need} {rollout['completion_ids']}"), (-1, 1) if need == "values" else (LOWEST, 0)
    length = len(rollout["completion_ids"]) + (need == "values")
    return torch.tensor([draw.uniform(low, high) for _ in range(length)], dtype=torch.double)


def map_tensors(inputs: Inputs, change: Callable[[str, Tensor], Tensor]) -> Inputs:
    """Return the inputs with `change(name, value)` in place of each tensor."""
    values: dict[str, Any] = {name: change(name, value) for name, value in vars(inputs).items() if isinstance(value, Tensor)}
    return replace(inputs, **values)


def in_dtype(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Return the inputs with every floating-point tensor in this dtype."""
    return map_tensors(inputs, lambda _, value: value.to(dtype) if value.is_floating_point() else value)


def _centred_rewards(groups: Sequence[Sequence[Rollout]]) -> Float[Tensor, "batch"]:
    means = [sum(rollout["reward"] for rollout in group) / len(group) for group in groups]
    centred = [rollout["reward"] - mean for group, mean in zip(groups, means, strict=True) for rollout in group]
    return torch.tensor(centred, dtype=torch.double)
