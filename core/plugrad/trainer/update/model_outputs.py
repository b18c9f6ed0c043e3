"""What a loss gets with gradient, as one mapping: the outputs of the policy and the parameters of losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from plugrad.contracts.loss import POLICY_OUTPUTS, BatchLossInputs


def model_outputs(inputs: BatchLossInputs) -> dict[str, Tensor]:
    """Return each by its name. Those of parameters have a dot, and no field has one."""
    fields: dict[str, Tensor | None] = {name: getattr(inputs, name) for name in POLICY_OUTPUTS}
    return {**{name: value for name, value in fields.items() if value is not None}, **(inputs.parameters or {})}


def with_model_outputs(inputs: BatchLossInputs, given: Mapping[str, Tensor]) -> BatchLossInputs:
    """Return the inputs with these in place of their own."""
    fields: dict[str, Any] = {name: value for name, value in given.items() if name in POLICY_OUTPUTS}
    own = {name: value for name, value in given.items() if name not in POLICY_OUTPUTS}
    return replace(inputs, **fields, parameters=own or None)
