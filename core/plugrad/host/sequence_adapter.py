"""The adapter between losses that take one sequence and core's form, the micro-batch.

Sequences whose counted tokens are at the same positions are computed together by `torch.func.vmap`. The result is that of a
loop, at about the cost of two iterations. All other sequences are computed one by one. So are losses that cannot be mapped:
losses that have state, call `.item()`, or branch on the values of a tensor.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from plugrad.contracts.loss import OF_SEQUENCES, BatchLossInputs, LossInputs, LossOutputs
from plugrad.errors import ContractError
from plugrad.host.calling import blaming, changed_in_place
from plugrad.host.loss_outputs import check_gradient, check_sequence_outputs, merged
from plugrad.host.vectorized import Several, call_vectorized, same_outputs

logger = logging.getLogger("plugrad")

FEWEST_TOGETHER = 4
"""Below this number of sequences, a loop is cheaper than vmap."""

SEQUENCE_FIELDS = tuple(field.name for field in fields(LossInputs))


@dataclass(frozen=True)
class _Span:
    """The range of the counted tokens of a row."""

    start: int
    """The first counted token."""
    end: int
    """One past the last counted token: the length of the row."""
    count: int


class PerSequence:
    """A micro-batch loss made from a loss of one sequence. It returns `[batch]`, or `[batch, seq]` if the loss is per token.

    A row ends at its last counted token. A scalar metric weighs one sequence.
    """

    def __init__(self, call: Callable[[LossInputs], object], owner: str, *, has_state: bool) -> None:
        self.call = call
        """The loss itself."""
        self._owner = owner
        # Whether it can be mapped over sequences. None until it is tried.
        self._maps: bool | None = False if has_state else None

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return the losses of a micro-batch.

        Raises:
            ContractError: the loss raised, changed its inputs, or did not return the loss of one sequence.
        """
        spans = _spans(inputs.loss_mask)
        alike = _rows_alike(spans)
        if not alike or self._maps is False:
            return self._compute(inputs, spans, [])
        if self._maps is None:
            looped = self._compute(inputs, spans, [])
            self._maps = self._try_to_map(inputs, spans, alike, looped)
            return looped
        try:
            return self._compute(inputs, spans, alike)
        except Exception:
            # The loop either works, or raises an error that the author can read.
            self._maps = False
            return self._compute(inputs, spans, [])

    def _try_to_map(self, inputs: BatchLossInputs, spans: list[_Span], alike: list[list[int]], looped: LossOutputs) -> bool:
        try:
            with torch.no_grad():
                return same_outputs(self._compute(inputs, spans, alike), looped)
        except Exception as error:
            logger.debug("%s is computed one sequence at a time: %s", self._owner, error)
            return False

    def _compute(self, inputs: BatchLossInputs, spans: list[_Span], alike: list[list[int]]) -> LossOutputs:
        """Compute groups of alike rows together, and the other rows one by one."""
        together = [row for rows in alike for row in rows]
        alone = sorted(set(range(len(spans))) - set(together))
        order = [*together, *alone]
        columns, shared = _columns(inputs, order)
        examples = [inputs.metadata and inputs.metadata[row] for row in alone]
        parts = _split(columns, [len(rows) for rows in alike] + ([len(alone)] if alone else []))
        outputs = [self._map(part, shared, length=spans[rows[0]].end) for rows, part in zip(alike, parts, strict=False)]
        outputs += [self._loop(parts[-1], shared, examples, [spans[row].end for row in alone])] if alone else []
        return LossOutputs(
            _in_order([output.loss for output in outputs], order, inputs.loss_mask.shape[1], self._owner),
            merged(self._owner, [output.metrics for output in outputs]),
        )

    def _map(self, columns: dict[str, Tensor], shared: dict[str, Any], length: int) -> LossOutputs:
        rows = {name: column if name in OF_SEQUENCES else column[:, :length] for name, column in columns.items()}
        # One mask for all of them, so that a loss may index by it: `loss[inputs.loss_mask].sum()`.
        mask = rows.pop("loss_mask")[0]
        several = Several()
        outputs = call_vectorized(
            self.call, rows, {**shared, "loss_mask": mask, "metadata": shared["metadata"] and several}, self._owner
        )
        several.check_unread()
        self._check_unchanged({**rows, "loss_mask": mask})
        return outputs

    def _loop(
        self, columns: dict[str, Tensor], shared: dict[str, Any], examples: list[Any], lengths: list[int]
    ) -> LossOutputs:
        ragged = {
            name: column.unbind() if name in OF_SEQUENCES else _ragged(column, lengths) for name, column in columns.items()
        }
        rows = [
            LossInputs.unchecked({**shared, "metadata": example, **dict(zip(columns, values, strict=True))})
            for example, *values in zip(examples, *ragged.values(), strict=True)
        ]
        with blaming(self._owner):
            outputs = [check_sequence_outputs(self._owner, self.call(row), row) for row in rows]
        for output, row in zip(outputs, rows, strict=True):
            check_gradient(self._owner, output, row)
        self._check_unchanged({name: values[0] for name, values in ragged.items()})
        losses = [output.loss for output in outputs]
        if len({loss.ndim for loss in losses}) != 1:
            raise _mixed(self._owner)
        width = max(lengths)
        stacked = torch.stack(losses if losses[0].ndim == 0 else [pad(loss, (0, width - len(loss))) for loss in losses])
        return LossOutputs(stacked, merged(self._owner, [output.metrics for output in outputs]))

    def _check_unchanged(self, copies: dict[str, Tensor]) -> None:
        # PyTorch counts in-place changes, jointly for a tensor and its views.
        changed = next((name for name, copy in copies.items() if copy._version), None)
        if changed:
            raise changed_in_place(self._owner, changed)


def as_batch(inputs: LossInputs) -> BatchLossInputs:
    """Return one sequence as a micro-batch of one row."""
    rows = {name: _unsqueezed(getattr(inputs, name)) for name in SEQUENCE_FIELDS}
    return BatchLossInputs(**{**rows, "parameters": inputs.parameters})


def _spans(loss_mask: Tensor) -> list[_Span]:
    """Return the range of the counted tokens of each row, with one device synchronisation."""
    seq = loss_mask.shape[1]
    positions = torch.arange(seq, device=loss_mask.device)
    start = torch.where(loss_mask, positions, seq).amin(dim=1)
    end = torch.where(loss_mask, positions + 1, 0).amax(dim=1)
    return [_Span(*numbers) for numbers in torch.stack([start, end, loss_mask.sum(dim=1)], dim=1).tolist()]


def _rows_alike(spans: list[_Span]) -> list[list[int]]:
    """Return groups of rows that share a mask, if the group is large enough. Masks with holes are skipped."""
    rows: dict[_Span, list[int]] = defaultdict(list)
    for row, span in enumerate(spans):
        if span.end - span.start == span.count:
            rows[span].append(row)
    return [alike for alike in rows.values() if len(alike) >= FEWEST_TOGETHER]


def _columns(inputs: BatchLossInputs, order: list[int]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return copies of the per-sequence fields with their rows in this order, and the values shared by all rows."""
    values = {name: getattr(inputs, name) for name in SEQUENCE_FIELDS}
    index = torch.tensor(order).to(inputs.loss_mask.device, non_blocking=True)
    columns = {name: value.index_select(0, index) for name, value in values.items() if isinstance(value, Tensor)}
    return columns, {name: value for name, value in values.items() if name not in columns}


def _split(columns: dict[str, Tensor], sizes: list[int]) -> list[dict[str, Tensor]]:
    # The backward pass of a slice fills a whole tensor with zeros. A split has one backward pass for all parts.
    parts = {name: column.split(sizes) for name, column in columns.items()}
    return [{name: parts[name][index] for name in columns} for index in range(len(sizes))]


def _ragged(column: Tensor, lengths: list[int]) -> Sequence[Tensor]:
    """Return the rows, each cut to the length of its sequence."""
    inside = torch.arange(column.shape[1]) < torch.tensor(lengths).unsqueeze(1)
    places = inside.flatten().nonzero().squeeze(1).to(column.device, non_blocking=True)
    rows: Sequence[Tensor] = column.flatten(0, 1).index_select(0, places).split(lengths)
    return rows


def _in_order(losses: list[Tensor], order: list[int], width: int, owner: str) -> Tensor:
    """Return the rows of all parts in their original order."""
    if len({loss.ndim for loss in losses}) != 1:
        raise _mixed(owner)
    if losses[0].ndim == 2:
        losses = [pad(loss, (0, width - loss.shape[1])) for loss in losses]
    whole = losses[0] if len(losses) == 1 else torch.cat(losses)
    if order == sorted(order):
        return whole
    places = torch.tensor(order).argsort().to(whole.device, non_blocking=True)
    return whole.index_select(0, places)


def _mixed(owner: str) -> ContractError:
    return ContractError(f"{owner} returned a scalar for some sequences and one value per token for others; choose one.")


def _unsqueezed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [value]
    return value.unsqueeze(0) if isinstance(value, Tensor) else value
