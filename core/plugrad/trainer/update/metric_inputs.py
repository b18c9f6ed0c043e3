"""The inputs of metrics: one rank's optimizer batch, put back together from its micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.metric import MetricInputs
from plugrad.host.received import copies_of_groups
from plugrad.trainer.batch.cut import OptimizerBatch
from plugrad.trainer.update.run_progress import Progress

COLUMNS = (
    "trainer_logprobs",
    "advantages",
    "loss_mask",
    "inference_logprobs",
    "entropy",
    "old_logprobs",
    "ref_logprobs",
    "values",
    "old_values",
    "returns",
)


ScoredRows = Sequence[tuple[list[int], BatchLossInputs]]
"""By micro-batch: the index of each of its rows in the batch, and what the losses get of them, detached."""


def metric_inputs(batch: OptimizerBatch, scored: ScoredRows, progress: Progress) -> MetricInputs:
    """Put the rows of the micro-batches back into the order of the rollouts, padded to one width.

    The segments of a rollout are behind one another in its row.
    """
    layout = _Layout.of(batch)
    moves = [layout.move(sequences, inputs.trainer_logprobs) for sequences, inputs in scored]
    replayed = any(sequence.inference_logprobs is None for sequence in batch.sequences)
    columns: dict[str, Any] = {name: layout.in_order(name, scored, moves) for name in COLUMNS}
    if replayed:
        columns["inference_logprobs"] = None
    advantages = columns["advantages"]
    rewards = [rollout["reward"] for group in batch.groups for rollout in group]
    return MetricInputs(
        # Copies: the record of the step reads the rollouts after the metrics.
        rollouts=copies_of_groups(batch.groups),
        rewards=advantages.new_tensor(rewards),
        group_ids=torch.tensor([group for group, _ in layout.rollouts], device=advantages.device),
        step=progress.step,
        policy_version=progress.version,
        **columns,
    )


@dataclass(frozen=True)
class _Layout:
    """Where the rows of micro-batches go."""

    rollouts: list[tuple[int, int]]
    """Group and member of each row."""
    places: list[tuple[int, int]]
    """Row and first column of each sequence."""
    lengths: list[int]
    """Of the sequences, in tokens."""

    @classmethod
    def of(cls, batch: OptimizerBatch) -> _Layout:
        widths: dict[tuple[int, int], int] = {}
        starts, lengths = [], [len(sequence.input_ids) for sequence in batch.sequences]
        for sequence, length in zip(batch.sequences, lengths, strict=True):
            starts.append(widths.get(sequence.rollout, 0))
            widths[sequence.rollout] = starts[-1] + length
        rows = {rollout: row for row, rollout in enumerate(widths)}
        places = [(rows[s.rollout], start) for s, start in zip(batch.sequences, starts, strict=True)]
        return cls(list(widths), places, lengths)

    @property
    def shape(self) -> tuple[int, int]:
        ends = (start + length for (_, start), length in zip(self.places, self.lengths, strict=True))
        return len(self.rollouts), max(ends)

    def move(self, sequences: list[int], like: Tensor) -> _Move:
        """Plan where the tokens of a micro-batch go. Once for all its fields: a step has many fields and many short rows."""
        places, width = [self.places[number] for number in sequences], self.shape[1]
        firsts = torch.tensor([row * width + start for row, start in places], dtype=torch.long)
        lengths = torch.tensor([self.lengths[number] for number in sequences], dtype=torch.long)
        columns = torch.arange(like.shape[1])
        inside = columns < lengths[:, None]
        rows = torch.arange(len(sequences)) * like.shape[1]
        source, target = ((starts[:, None] + columns)[inside].to(like.device) for starts in (rows, firsts))
        return _Move(source, target)

    def in_order(self, name: str, scored: ScoredRows, moves: Sequence[_Move]) -> Tensor | None:
        """Gather one field of the losses' inputs. Rows that are in no micro-batch are zero."""
        whole: Tensor | None = None
        for (_, inputs), move in zip(scored, moves, strict=True):
            values: Tensor | None = getattr(inputs, name)
            if values is None:
                return None
            whole = values.new_zeros(self.shape) if whole is None else whole
            whole.view(-1)[move.target] = values.reshape(-1)[move.source]
        return whole


@dataclass(frozen=True)
class _Move:
    """What a micro-batch's tokens are in its rows and in those of the batch, both read as one long row."""

    source: Tensor
    target: Tensor
