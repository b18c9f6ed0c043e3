"""Reductions: the weights w_s of the objective, and the only place that divides.

objective = sum over losses k of  weight_k * sum over sequences s of  w_ks * loss_ks
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plugrad.contracts.markers import Reduction


@dataclass(frozen=True)
class Counts:
    """Counts of the whole optimizer batch over all ranks, before any extension drops a token."""

    tokens: int
    """Counted tokens."""
    sequences: int
    """All rollouts, including those without a counted token."""
    groups: int
    max_new_tokens: int
    of_losses: Mapping[str, Counts] = field(default_factory=dict)
    """By the label of a loss that counts some examples alone: the counts of these."""

    def of(self, label: str) -> Counts:
        """Return what the reduction of a loss divides by."""
        return self.of_losses.get(label, self)


def total(parts: Sequence[Counts]) -> Counts:
    """Add up the counts of several ranks. A group is never split between ranks."""
    return Counts(
        tokens=sum(part.tokens for part in parts),
        sequences=sum(part.sequences for part in parts),
        groups=sum(part.groups for part in parts),
        max_new_tokens=parts[0].max_new_tokens,
        of_losses={label: total([part.of_losses[label] for part in parts]) for label in parts[0].of_losses},
    )


@dataclass(frozen=True)
class RowCounts:
    """The counts of some rows that their weights depend on."""

    tokens: Int[Tensor, "batch"]
    """Counted tokens of each row's rollout, which may have further rows."""
    group_tokens: Int[Tensor, "batch"]
    """Counted tokens of each row's whole group."""


def count_rows(counted_tokens: Sequence[int], rollouts: Sequence[tuple[int, int]]) -> RowCounts:
    """Count the tokens of the rollouts of rows and of their groups. Each group must be complete: it never spans ranks.

    Args:
        counted_tokens: of each row.
        rollouts: group and member of each row.
    """
    of_rollout: Counter[tuple[int, int]] = Counter()
    of_group: Counter[int] = Counter()
    for rollout, tokens in zip(rollouts, counted_tokens, strict=True):
        of_rollout[rollout] += tokens
        of_group[rollout[0]] += tokens
    return RowCounts(
        torch.tensor([of_rollout[rollout] for rollout in rollouts]),
        torch.tensor([of_group[group] for group, _ in rollouts]),
    )


DENOMINATORS: dict[Reduction, Callable[[RowCounts, Counts], Tensor | int]] = {
    "token": lambda rows, counts: counts.tokens,
    "sequence": lambda rows, counts: counts.sequences * rows.tokens.double(),
    "sequence_sum": lambda rows, counts: counts.sequences,
    "constant": lambda rows, counts: counts.sequences * counts.max_new_tokens,
    "group": lambda rows, counts: counts.groups * rows.group_tokens.double(),
}
"""1 / w_s for each reduction. To add a reduction, add it here and to the literal `Reduction`."""


def row_weights(reduction: Reduction, rows: RowCounts, counts: Counts) -> Float[Tensor, "batch"]:
    """Return w_s for each row in float64, or 0 for a row without a counted token.

    token         1 / counted tokens of the batch                       DAPO, token mean
    sequence      1 / (sequences * tokens of s)                         GRPO, sequence mean
    sequence_sum  1 / sequences                                         sequence mean of token sums
    constant      1 / (sequences * max_new_tokens)                      Dr. GRPO
    group         1 / (groups * tokens of the group of s)               prompt mean
    """
    denominators = torch.ones_like(rows.tokens, dtype=torch.float64) * DENOMINATORS[reduction](rows, counts)
    return torch.where(rows.tokens > 0, 1 / denominators.clamp(min=1), 0.0)
