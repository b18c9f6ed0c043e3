"""Check the outputs of a loss, and merge the metrics of several sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.loss import POLICY_OUTPUTS, BatchLossInputs, LossInputs, LossOutputs
from plugrad.contracts.measures import Measure, Measures
from plugrad.errors import ContractError
from plugrad.host.calling import refuse_coroutine
from plugrad.host.reported import add_reported


def check_outputs(owner: str, outputs: object, inputs: LossInputs | BatchLossInputs) -> None:
    """Raise ContractError unless these are LossOutputs with a floating-point tensor on the inputs' device."""
    if not isinstance(outputs, LossOutputs) or not isinstance(outputs.loss, Tensor):
        refuse_coroutine(owner, outputs)
        found = type(outputs).__name__
        found = f"LossOutputs(loss={type(outputs.loss).__name__})" if isinstance(outputs, LossOutputs) else found
        raise ContractError(f"{owner} returned {found}; a loss returns plugrad.LossOutputs(loss=a tensor).")
    if not outputs.loss.dtype.is_floating_point:
        raise ContractError(f"{owner} returned a loss of {outputs.loss.dtype}, which has no gradient; return floats.")
    if outputs.loss.device != inputs.loss_mask.device:
        raise ContractError(
            f"{owner} returned a loss on {outputs.loss.device}, but its inputs are on {inputs.loss_mask.device}. Create new "
            "tensors there: torch.zeros_like(x), x.new_tensor(...), or device=x.device."
        )
    if not isinstance(outputs.metrics, Mapping):
        raise ContractError(
            f"{owner} returned metrics of type {type(outputs.metrics).__name__}; return a dict from names to numbers."
        )


def check_sequence_outputs(owner: str, outputs: object, row: LossInputs) -> LossOutputs:
    """Return the outputs. Raise ContractError unless they are a scalar or one value per token."""
    check_outputs(owner, outputs, row)
    assert isinstance(outputs, LossOutputs)
    if outputs.loss.shape not in (torch.Size(()), row.loss_mask.shape):
        raise ContractError(
            f"{owner} returned a loss of shape {tuple(outputs.loss.shape)} for a sequence of {len(row.loss_mask)} tokens; "
            "return a scalar (the sum over its tokens) or one value per token."
        )
    return outputs


def merged(owner: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor | Measure | float]:
    """Merge the metrics of several sequences. A scalar weighs one sequence, a 1-D tensor one per element, None nothing."""
    names = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    return {name: _merge(owner, name, [row[name] for row in rows if row.get(name) is not None]) for name in names}


def _merge(owner: str, name: str, values: list[Any]) -> Tensor | Measure:
    if all(isinstance(value, Tensor) and value.ndim == 0 for value in values):
        # One stack instead of one addition per sequence.
        return torch.stack([value.detach() for value in values])
    if all(isinstance(value, Tensor) and value.ndim == 1 for value in values):
        return torch.cat([value.detach() for value in values])
    measures = Measures()
    for value in values:
        add_reported(measures, name, value, 1, f"{owner} returned the metric {name!r}")
    return measures[name]


def check_gradient(owner: str, outputs: LossOutputs, inputs: LossInputs | BatchLossInputs) -> None:
    """Raise ContractError if a loss has no gradient where the policy has one, and is not 0 everywhere."""
    outputs_of_policy = [getattr(inputs, name) for name in POLICY_OUTPUTS]
    given = [field for field in outputs_of_policy if field is not None]
    # In a loop of one's own, the entropy may be a constant.
    if outputs.loss.requires_grad or not torch.is_grad_enabled() or not all(field.requires_grad for field in given):
        return
    # A loss that is switched off may return zeros. Only a loss without gradient costs this look at the device.
    if bool((outputs.loss != 0).any()):
        raise ContractError(
            f"{owner} returned a loss without gradient. Compute it from inputs.trainer_logprobs (or "
            "inputs.entropy) without detach() and outside torch.no_grad()."
        )
