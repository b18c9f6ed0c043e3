"""The one adapter between losses that take a sequence and the core's form, the micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from plugrad.contracts.loss import BatchLossInputs, LossInputs, LossOutputs
from plugrad.contracts.measures import Measure, Measures, as_measure
from plugrad.errors import ContractError
from plugrad.host.calling import call_plugin

SEQUENCE_FIELDS = tuple(field.name for field in fields(LossInputs))


def call_by_sequence(call: Callable[[LossInputs], object], inputs: BatchLossInputs, *, owner: str) -> LossOutputs:
    """Slice the rows of a micro-batch, call the loss on each, and stack: `[batch]`, or `[batch, seq]` from per-token losses.

    A row ends at its last counted token. Metrics that are scalars weigh one sequence each.

    Raises:
        ContractError: the loss returned something else than one sequence's loss.
    """
    rows = [LossInputs.unchecked(row) for row in _rows(inputs)]
    outputs = [_checked(call_plugin(owner, call, row), row, owner) for row in rows]
    losses = [output.loss for output in outputs]
    if len({loss.ndim for loss in losses}) != 1:
        raise ContractError(f"{owner} returned a scalar for some sequences and one value per token for others; choose one.")
    stacked = torch.stack(losses) if losses[0].ndim == 0 else _padded(losses, inputs.loss_mask.shape[1])
    return LossOutputs(stacked, _merged([output.metrics for output in outputs], owner))


def as_batch(inputs: LossInputs) -> BatchLossInputs:
    """Return one sequence as a micro-batch of one row."""
    return BatchLossInputs(**{name: _unsqueezed(getattr(inputs, name)) for name in SEQUENCE_FIELDS})


def check_outputs(owner: str, outputs: object, inputs: LossInputs | BatchLossInputs) -> None:
    """Raise ContractError unless these are LossOutputs with a floating-point tensor on the device of the inputs."""
    if not isinstance(outputs, LossOutputs) or not isinstance(outputs.loss, Tensor):
        found = type(outputs).__name__
        found = f"LossOutputs(loss={type(outputs.loss).__name__})" if isinstance(outputs, LossOutputs) else found
        raise ContractError(f"{owner} returned {found}; a loss returns plugrad.LossOutputs(loss=a tensor).")
    if not outputs.loss.dtype.is_floating_point:
        raise ContractError(f"{owner} returned a loss of {outputs.loss.dtype}, which has no gradient; return real numbers.")
    if outputs.loss.device != inputs.loss_mask.device:
        raise ContractError(
            f"{owner} returned a loss on {outputs.loss.device}, and its inputs are on {inputs.loss_mask.device}. Make new "
            "tensors there: torch.zeros_like(x), x.new_tensor(...), or device=x.device."
        )
    if not isinstance(outputs.metrics, Mapping):
        raise ContractError(
            f"{owner} returned metrics of type {type(outputs.metrics).__name__}; write a dict from names to numbers."
        )


def _rows(inputs: BatchLossInputs) -> list[dict[str, Any]]:
    positions = torch.arange(1, inputs.loss_mask.shape[1] + 1, device=inputs.loss_mask.device)
    lengths = (inputs.loss_mask * positions).amax(dim=1).tolist()
    values = {name: getattr(inputs, name) for name in SEQUENCE_FIELDS}
    columns = {name: value.unbind() for name, value in values.items() if isinstance(value, Tensor)}
    constants = {name: value for name, value in values.items() if name not in columns}
    return [
        constants | {name: rows[i][:length] if rows[i].ndim else rows[i] for name, rows in columns.items()}
        for i, length in enumerate(lengths)
    ]


def _checked(output: object, row: LossInputs, owner: str) -> LossOutputs:
    check_outputs(owner, output, row)
    assert isinstance(output, LossOutputs)
    if output.loss.shape not in (torch.Size(()), row.loss_mask.shape):
        raise ContractError(
            f"{owner} returned a loss of shape {tuple(output.loss.shape)} for a sequence of {len(row.loss_mask)} tokens; "
            "return a scalar (the sum over its tokens) or one value per token."
        )
    return output


def _padded(losses: list[Tensor], width: int) -> Tensor:
    padded = pad_sequence(losses, batch_first=True)
    return torch.nn.functional.pad(padded, (0, width - padded.shape[1]))


def _merged(rows: Sequence[Mapping[str, Any]], owner: str) -> dict[str, Tensor | Measure | float]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _merge(owner, name, [row[name] for row in rows if name in row]) for name in names}


def _merge(owner: str, name: str, values: list[Any]) -> Tensor | Measure:
    if all(isinstance(value, Tensor) and value.ndim == 0 for value in values):
        # One stack for the column, not an addition for each sequence; a 1-D tensor counts once per element.
        return torch.stack([value.detach() for value in values])
    measures = Measures()
    try:
        for value in values:
            measures.add(name, as_measure(value, num_sequences=1))
    except TypeError as error:
        raise ContractError(f"{owner} returned the metric {name!r}: {error}.") from error
    return measures[name]


def _unsqueezed(value: Any) -> Any:
    return value.unsqueeze(0) if isinstance(value, Tensor) else value
