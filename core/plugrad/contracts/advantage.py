"""What an advantage receives and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from beartype import beartype
from jaxtyping import Float, Int, jaxtyped
from torch import Tensor

from plugrad.contracts.rollout import Rollout
from plugrad.errors import ContractError


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True)
class AdvantageInputs:
    """The groups of all ranks, on the CPU, the same on every rank.

    Can be built by hand from `rewards` and `completion_lengths`, or from `rollouts` alone.
    """

    rewards: Float[Tensor, "num_examples rollouts_per_example"] = None  # type: ignore[assignment]
    """As `prepare_advantages` left them; where no extension changed them, as the environment scored them."""
    completion_lengths: Int[Tensor, "num_examples rollouts_per_example"] = None  # type: ignore[assignment]
    """In tokens, the end-of-sequence token included."""
    rollouts: list[list[Rollout]] = field(default_factory=list)
    """`rollouts[i][j]` is the j-th rollout of example i."""
    greedy_rewards: Float[Tensor, "num_examples"] | None = field(default=None, kw_only=True)
    """The reward of one greedy completion of each example, which is not trained on; for `@advantage(needs=...)`."""

    def __post_init__(self) -> None:
        if self.rewards is None:
            rewards = [[rollout["reward"] for rollout in group] for group in self.rollouts]
            object.__setattr__(self, "rewards", _rectangle(rewards, torch.double))
        if self.completion_lengths is None:
            lengths = [[len(rollout["completion_ids"]) for rollout in group] for group in self.rollouts]
            object.__setattr__(self, "completion_lengths", _rectangle(lengths, torch.long))


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True)
class AdvantageOutputs:
    """One advantage per rollout, or one per completion token, laid out as `rollouts[i][j]`."""

    advantages: Float[Tensor, "num_examples rollouts_per_example"] | list[list[Float[Tensor, "_completion"]]]
    """Finite numbers. A tensor gives every token of a completion its rollout's advantage; a list has one tensor per rollout,
    with one entry per completion token, the end-of-sequence token included."""


def _rectangle(rows: list[list[float]] | list[list[int]], dtype: torch.dtype) -> Tensor:
    if not rows or len({len(row) for row in rows}) != 1:
        raise ContractError(
            "AdvantageInputs is built from rewards and completion_lengths, or from rollouts with the same number in "
            f"every group; the groups hold {[len(row) for row in rows]}."
        )
    return torch.tensor(rows, dtype=dtype)
