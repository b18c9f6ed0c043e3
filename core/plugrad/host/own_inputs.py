"""Prepare the inputs of another training loop as plugrad's trainer does its own: float32 at least, masked slots 0."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.contracts.loss import OF_SEQUENCES, AnotherPass, BatchLossInputs, LossInputs
from plugrad.contracts.metric import MetricInputs
from plugrad.errors import ContractError
from plugrad.formulas.ratios import at_least_float32

Method = TypeVar("Method", bound=Callable[..., Any])
Rows = TypeVar("Rows", LossInputs, BatchLossInputs, MetricInputs)


def with_one_argument(method: Method) -> Method:
    """Make `__call__` of a loaded component say what it takes if it is called with something else than one argument.

    Raises:
        ContractError: in the method: there are no inputs, too many arguments, or unknown ones.
    """
    expected = signature(method)

    @functools.wraps(method)
    def call(self: Any, *given: Any, **named: Any) -> Any:
        try:
            expected.bind(self, *given, **named)
        except TypeError as error:
            takes = str(expected.parameters["inputs"].annotation).replace("|", "or")
            raise ContractError(
                f"{self.bound.component} was called wrongly: {error}. It takes one argument, of type {takes}."
            ) from error
        return method(self, *given, **named)

    return cast(Method, call)


def prepared_rows(inputs: Rows) -> Rows:
    """Return a sequence, or rows, in float32 at least, with 0 in every masked slot, through which no gradient flows.

    NaN times 0 is NaN, so a mask that multiplies is not enough. `input_ids` stay: the prompt's tokens are masked too. A
    number per sequence, such as the reward, has no mask.
    """
    changed: dict[str, Any] = {
        name: wide if name in OF_SEQUENCES else _filled(wide, inputs.loss_mask)
        for name, value in vars(inputs).items()
        if isinstance(value, Tensor) and value.is_floating_point()
        for wide in [at_least_float32(value)]
    }
    if isinstance(inputs, BatchLossInputs) and inputs.again is not None:
        changed["again"] = _prepared_pass(inputs.again, inputs.loss_mask)
    if not isinstance(inputs, MetricInputs) and inputs.parameters is not None:
        changed["parameters"] = {name: at_least_float32(value) for name, value in inputs.parameters.items()}
    return replace(inputs, **changed)


def _prepared_pass(again: Callable[[Tensor], AnotherPass], loss_mask: Tensor) -> Callable[[Tensor], AnotherPass]:
    def prepared(shift: Tensor) -> AnotherPass:
        found = (None if value is None else _filled(at_least_float32(value), loss_mask) for value in again(shift))
        return AnotherPass(*found)  # type: ignore[arg-type]

    return prepared


def prepared_groups(owner: str, inputs: AdvantageInputs) -> AdvantageInputs:
    """Return the groups with rewards in float64: in float32, equal rewards differ from their mean.

    Raises:
        ContractError: a reward is not finite.
    """
    for name, rewards in (("rewards", inputs.rewards), ("greedy_rewards", inputs.greedy_rewards)):
        if rewards is not None and not bool(torch.isfinite(rewards).all()):
            place = (~torch.isfinite(rewards)).nonzero()[0].tolist()
            raise ContractError(
                f"{owner} was called with {name} of {float(rewards[tuple(place)])} at {place}. Their advantage would turn "
                "the whole policy into NaN: pass finite rewards."
            )
    greedy = inputs.greedy_rewards
    return replace(inputs, rewards=inputs.rewards.double(), greedy_rewards=None if greedy is None else greedy.double())


def _filled(values: Tensor, loss_mask: Tensor) -> Tensor:
    if values.ndim < loss_mask.ndim:
        return values
    return torch.where(loss_mask if values.ndim == loss_mask.ndim else loss_mask.unsqueeze(-1), values, 0.0)
