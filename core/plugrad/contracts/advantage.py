"""What an advantage receives and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from plugrad.contracts.checked_fields import checked_fields, converted_field
from plugrad.contracts.float_tensors import as_groups
from plugrad.contracts.rollout import Rollout
from plugrad.errors import ContractError


@checked_fields
@dataclass(frozen=True, kw_only=True)
class AdvantageInputs:
    """The groups of all ranks, on the CPU. Every rank has the same inputs.

    Build them from `rewards` and `completion_lengths`, or from `rollouts` alone.
    """

    rewards: Real[Tensor, "num_examples rollouts_per_example"] | Bool[Tensor, "num_examples rollouts_per_example"] = None  # type: ignore[assignment]
    """As `prepare_advantages` returned them: the environment's scores, unless an extension changed them. Whole numbers
    become floats."""
    completion_lengths: Int[Tensor, "num_examples rollouts_per_example"] = None  # type: ignore[assignment]
    """In tokens, including the end-of-sequence token."""
    rollouts: list[list[Rollout]] = field(default_factory=list)
    """`rollouts[i][j]` is the j-th rollout of example i. If extensions changed the reward and the environment returned
    components, `reward_components` has the change as `extensions`."""
    greedy_rewards: Real[Tensor, "num_examples"] | Bool[Tensor, "num_examples"] | None = None
    """The reward of one greedy completion per example. The policy is not trained on these completions."""
    values: list[list[Float[Tensor, "_completion_and_one"]]] | None = None
    """The critic's values, in the unit of rewards: entry t is V of the state in which token t was chosen, and the last entry
    V of the state after the last token."""
    old_logprobs: list[list[Float[Tensor, "_completion"]]] | None = None
    """log pi of each token before the first update on these rollouts, in nats."""
    ref_logprobs: list[list[Float[Tensor, "_completion"]]] | None = None
    """log pi_ref of each token, from the frozen reference model."""
    teacher_logprobs: list[list[Float[Tensor, "_completion"]]] | None = None
    """log pi_teacher of each token, from the frozen teacher model."""

    def __post_init__(self) -> None:
        if self.rewards is None:
            rewards = [[rollout["reward"] for rollout in group] for group in self.rollouts]
            object.__setattr__(self, "rewards", _rectangle(rewards, torch.double))
        for name in ("rewards", "greedy_rewards"):
            values = getattr(self, name)
            if values is not None and not values.is_floating_point():
                object.__setattr__(self, name, values.double())
        if self.completion_lengths is None:
            lengths = [[len(rollout["completion_ids"]) for rollout in group] for group in self.rollouts]
            object.__setattr__(self, "completion_lengths", _rectangle(lengths, torch.long))

    @property
    def token_rewards(self) -> list[list[Float[Tensor, "_completion"]]]:
        """What each token of a completion earned, in float64: together it is the rollout's reward.

        A reply's own reward comes with its last token, and the rest of the rollout's with the last token of all. So it is
        all there where rollouts have no turns. An empty completion has nothing.
        """
        lengths, rewards = self.completion_lengths.tolist(), self.rewards.double().tolist()
        without_turns: list[list[Mapping[str, Any]]] = [[{}] * len(group) for group in lengths]
        rollouts: Sequence[Sequence[Mapping[str, Any]]] = self.rollouts or without_turns
        return [
            [_earned(*each) for each in zip(*group, strict=True)] for group in zip(lengths, rewards, rollouts, strict=True)
        ]


@converted_field("advantages", as_groups)
@checked_fields
@dataclass(frozen=True)
class AdvantageOutputs:
    """One advantage per rollout, or one per completion token, laid out as `rollouts[i][j]`.

    Integers, arrays of NumPy and lists of numbers become float tensors.
    """

    advantages: Float[Tensor, "num_examples rollouts_per_example"] | list[list[Float[Tensor, "_completion"]]]
    """Finite numbers. A tensor gives every token of a completion its rollout's advantage. A list has one tensor per rollout,
    with one entry per completion token, including the end-of-sequence token."""
    returns: list[list[Float[Tensor, "_completion"]]] | None = None
    """What a critic is trained on, in the unit of rewards: one finite number per completion token."""


def _earned(length: int, reward: float, rollout: Mapping[str, Any]) -> Tensor:
    earned = torch.zeros(length, dtype=torch.double)
    for turn in rollout.get("turns", ()) if length else ():
        if turn["reward"] and turn["stop"] > turn["start"]:
            earned[turn["stop"] - 1] += turn["reward"]
    if length:
        earned[-1] += reward - float(earned.sum())
    return earned


def _rectangle(rows: list[list[float]] | list[list[int]], dtype: torch.dtype) -> Tensor:
    if not rows or len({len(row) for row in rows}) != 1:
        raise ContractError(
            "AdvantageInputs needs rewards and completion_lengths, or rollouts with the same number in every group; the "
            f"groups hold {[len(row) for row in rows]}."
        )
    return torch.tensor(rows, dtype=dtype)
