"""Cut an optimizer batch into micro-batches of whole sequences under a token budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plugrad.errors import DataError
from plugrad.policy.partition import full_blocks, least_padding
from plugrad.policy.reductions import Counts, RowCounts, count_rows
from plugrad.shown import shown


@dataclass(frozen=True)
class TrainingSequence:
    """A row to train on: prompt and completion, or a segment of a rollout. Lists have one entry per token."""

    input_ids: list[int]
    loss_mask: list[bool]
    advantages: list[float]
    inference_logprobs: list[float] | None
    """None for a replayed completion. The trainer's own log-probs, detached, then take their place."""
    reward: float
    group_id: int
    member: int
    """The rollout's place in its group."""
    metadata: Mapping[str, Any]
    fixed: Mapping[str, list[float]] = field(default_factory=dict)
    """What was computed before the first update, by field of `MicroBatch`."""
    teacher_prompt: list[int] | None = None
    """What the teacher reads before the completion, if not the prompt."""

    @property
    def longest(self) -> int:
        """Number of tokens in the longest row that a model reads of it."""
        if self.teacher_prompt is None or not self.counted_tokens:
            return len(self.input_ids)
        return max(len(self.input_ids), len(self.teacher_prompt) + len(self.input_ids) - self.loss_mask.index(True))

    @property
    def rollout(self) -> tuple[int, int]:
        """What tells its rollout from others: group and member."""
        return self.group_id, self.member

    @property
    def counted_tokens(self) -> int:
        """Number of tokens in the loss."""
        return sum(self.loss_mask)


@dataclass(frozen=True)
class Layout:
    """How sequences become tensors."""

    token_budget: int
    """Maximum number of tokens in a micro-batch, including padding unless `packed`."""
    pad_token_id: int
    dtype: torch.dtype
    """Data type of advantages and log-probs."""
    packed: bool = False
    """Whether the models get sequences without padding."""
    passes: int = 1
    """How many passes with gradient the budget is for: they are in memory together."""

    @property
    def tokens_per_pass(self) -> int:
        """Maximum number of tokens in a row, or in rows together."""
        return self.token_budget // self.passes

    def described(self) -> str:
        """Return what bounds a sequence, for messages."""
        shared = f", shared by {self.passes} passes through the policy" if self.passes > 1 else ""
        return f"tokens_per_micro_batch is {self.token_budget}{shared}"


@dataclass(frozen=True)
class MicroBatch:
    """Rows padded on the right. Log-probs of frozen models are None until they are computed."""

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Bool[Tensor, "batch seq"]
    loss_mask: Bool[Tensor, "batch seq"]
    advantages: Float[Tensor, "batch seq"]
    inference_logprobs: Float[Tensor, "batch seq"] | None
    reward: Float[Tensor, "batch"]
    group_ids: Int[Tensor, "batch"]
    member: Int[Tensor, "batch"]
    metadata: list[Mapping[str, Any]]
    rows: list[int]
    """Index of each row in the optimizer batch."""
    row_counts: RowCounts
    counts: Counts
    old_logprobs: Float[Tensor, "batch seq"] | None = None
    ref_logprobs: Float[Tensor, "batch seq"] | None = None
    teacher_logprobs: Float[Tensor, "batch seq"] | None = None
    old_values: Float[Tensor, "batch seq"] | None = None
    returns: Float[Tensor, "batch seq"] | None = None
    teacher_prompts: Sequence[list[int] | None] = ()
    """What the teacher reads before each row's completion, if not the prompt; empty if it reads the rows."""

    def to(self, device: torch.device) -> MicroBatch:
        """Move the models' inputs to `device`. The counts stay."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def cut(sequences: Sequence[TrainingSequence], counts: Counts, layout: Layout) -> list[MicroBatch]:
    """Cut one rank's share of an optimizer batch into one or more micro-batches.

    Sequences of similar length stay together to limit padding, and rows * longest row never exceeds the token budget. Packed
    sequences fill the budget with their own tokens. Sequences without a counted token are counted, but left out of the
    micro-batches.

    Raises:
        DataError: a single sequence exceeds the budget.
    """
    row_counts = count_rows([s.counted_tokens for s in sequences], [s.rollout for s in sequences])
    counted = [row for row, sequence in enumerate(sequences) if sequence.counted_tokens]
    by_length = sorted(counted, key=lambda row: -sequences[row].longest)
    if by_length and sequences[by_length[0]].longest > layout.tokens_per_pass:
        longest = sequences[by_length[0]]
        raise DataError(
            f"the sequence of example {shown(longest.metadata.get('example_id'))} has {longest.longest} tokens, but "
            f"{layout.described()}: raise it to at least {layout.passes * longest.longest}, or lower rollout.max_new_tokens."
        )
    partition = full_blocks if layout.packed else least_padding
    cuts = partition([sequences[row].longest for row in by_length], layout.tokens_per_pass)
    blocks = [by_length[start:stop] for start, stop in cuts]
    if not blocks:
        return [nothing(counts, layout)]
    return [_micro_batch(sequences, block, row_counts, counts, layout) for block in blocks]


def _micro_batch(
    sequences: Sequence[TrainingSequence],
    rows: list[int],
    row_counts: RowCounts,
    counts: Counts,
    layout: Layout,
) -> MicroBatch:
    chosen = [sequences[row] for row in rows]
    width = max(len(sequence.input_ids) for sequence in chosen)
    replayed = any(sequence.inference_logprobs is None for sequence in chosen)
    return MicroBatch(
        input_ids=_padded([s.input_ids for s in chosen], width, layout.pad_token_id, torch.long),
        attention_mask=_padded([[True] * len(s.input_ids) for s in chosen], width, False, torch.bool),
        loss_mask=_padded([s.loss_mask for s in chosen], width, False, torch.bool),
        advantages=_padded([s.advantages for s in chosen], width, 0.0, layout.dtype),
        inference_logprobs=None if replayed else _padded([s.inference_logprobs for s in chosen], width, 0.0, layout.dtype),
        reward=torch.tensor([s.reward for s in chosen], dtype=layout.dtype),
        group_ids=torch.tensor([s.group_id for s in chosen]),
        member=torch.tensor([s.member for s in chosen]),
        metadata=[s.metadata for s in chosen],
        rows=rows,
        row_counts=RowCounts(row_counts.tokens[rows], row_counts.group_tokens[rows]),
        counts=counts,
        teacher_prompts=[s.teacher_prompt for s in chosen] if any(s.teacher_prompt for s in chosen) else (),
        **{name: _padded([s.fixed[name] for s in chosen], width, 0.0, layout.dtype) for name in chosen[0].fixed},
    )


def nothing(counts: Counts, layout: Layout) -> MicroBatch:
    """Return a row in which no token counts: a rank without sequences still runs its forward and backward passes."""
    empty = TrainingSequence([layout.pad_token_id] * 2, [False] * 2, [0.0] * 2, [0.0] * 2, 0.0, -1, 0, {})
    return replace(_micro_batch([empty], [0], count_rows([0], [(-1, 0)]), counts, layout), rows=[])


def _padded(rows: Sequence[Any], width: int, filler: Any, dtype: torch.dtype) -> Tensor:
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows], dtype=dtype)
