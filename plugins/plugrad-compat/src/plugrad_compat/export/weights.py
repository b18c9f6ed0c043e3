"""The weight of each sequence in an optimizer batch of another trainer, for plugrad's reductions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Counts:
    """Counts of one optimizer batch, over all processes and micro-batches."""

    tokens: float
    sequences: float
    groups: float
    max_new_tokens: float


def sequence_weights(reduction: str, lengths: Tensor, group_lengths: Tensor, counts: Counts) -> Tensor:
    """Return the weight w_s of each sequence, 0 for one without a counted token.

    token 1 / tokens; sequence 1 / (sequences * tokens of s); sequence_sum 1 / sequences;
    constant 1 / (sequences * max_new_tokens); group 1 / (groups * tokens of the group of s).
    """
    ones = torch.ones_like(group_lengths)
    denominators = {
        "token": counts.tokens * ones,
        "sequence": counts.sequences * lengths.to(ones),
        "sequence_sum": counts.sequences * ones,
        "constant": counts.sequences * counts.max_new_tokens * ones,
        "group": counts.groups * group_lengths,
    }
    return torch.where(lengths > 0, 1 / denominators[reduction].clamp(min=1), 0.0)
