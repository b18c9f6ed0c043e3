"""A plugin by name and options, found when it is first called, and what it gives a batch that another system lays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from plugrad import (
    AdvantageInputs,
    AdvantageOutputs,
    BatchLossInputs,
    LoadedLoss,
    Max,
    Mean,
    Measure,
    Min,
    PluginError,
    Sum,
    load,
)


@dataclass(frozen=True)
class Rows:
    """What a loss gives the rows of a batch."""

    sums: Tensor
    """Over each row's counted tokens, 0 for a row without any: `[batch]`."""
    per_token: Tensor | None
    """`[batch, seq]`, where the loss is one of tokens."""
    metrics: dict[str, float]


@dataclass(frozen=True)
class NamedLoss:
    """A loss for a system that can give it some of the optional fields."""

    name: str
    options: Mapping[str, Any]
    system: str
    gives: frozenset[str]

    @cached_property
    def loss(self) -> LoadedLoss:
        """The loss.

        Raises:
            PluginError: it is not installed, or needs what the system does not give.
            OptionError: it does not take these options.
        """
        found: LoadedLoss = load("loss", self.name, **self.options)
        lacking = sorted(found.needs - self.gives)
        if lacking:
            raise PluginError(
                f"the loss {self.name!r} needs {', '.join(lacking)}, which {self.system} does not give a loss. It gives "
                f"{', '.join(sorted(self.gives)) or 'log-probs and advantages alone'}."
            )
        return found

    def rows(self, inputs: BatchLossInputs) -> Rows:
        """Return what the loss gives each row; rows in which nothing counts never reach it."""
        counting = inputs.loss_mask.any(dim=1)
        nothing = inputs.trainer_logprobs.sum(dim=1) * 0
        if not bool(counting.any()):
            return Rows(nothing, inputs.trainer_logprobs * 0, {})
        outputs = self.loss(_kept(inputs, counting))
        metrics = {key: number(value) for key, value in outputs.metrics.items()}
        if outputs.loss.ndim == 1:
            return Rows(nothing.index_put((counting,), outputs.loss), None, metrics)
        counted = torch.where(inputs.loss_mask[counting], outputs.loss, 0.0)
        per_token = torch.zeros_like(inputs.trainer_logprobs).index_put((counting,), counted)
        return Rows(nothing.index_put((counting,), counted.sum(dim=1)), per_token, metrics)


def named_loss(name: str, options: Mapping[str, Any], system: str, gives: frozenset[str]) -> NamedLoss:
    """Return the loss of that name with these options: the same one at every call."""
    key = (system, name, repr(sorted(options.items())))
    return _LOSSES.setdefault(key, NamedLoss(name, options, system, gives))


def named_advantage(name: str, options: Mapping[str, Any]) -> Callable[[AdvantageInputs], AdvantageOutputs]:
    """Return the advantage of that name with these options: the same instance at every call, since it may have state."""
    key = (name, repr(sorted(options.items())))
    if key not in _ADVANTAGES:
        _ADVANTAGES[key] = load("advantage", name, **options)
    return _ADVANTAGES[key]


_LOSSES: dict[tuple[str, str, str], NamedLoss] = {}
_ADVANTAGES: dict[tuple[str, str], Callable[[AdvantageInputs], AdvantageOutputs]] = {}


def number(value: Tensor | Measure | float) -> float:
    """Return a metric as a plain number."""
    if isinstance(value, Mean | Sum | Min | Max):
        return value.value()
    return float(value.detach().double().mean()) if isinstance(value, Tensor) else float(value)


def weighted(rows: Rows, weights: Tensor, name: str, what: str) -> Tensor:
    """Return each row's sum with a weight on every token.

    Raises:
        PluginError: the loss has no values per token.
    """
    if rows.per_token is None:
        raise PluginError(f"the loss {name!r} is one of whole sequences, and {what} weigh tokens: they cannot be combined.")
    return (rows.per_token * weights).sum(dim=1)


def _kept(inputs: BatchLossInputs, counting: Tensor) -> BatchLossInputs:
    kept: dict[str, Any] = {name: value[counting] for name, value in vars(inputs).items() if isinstance(value, Tensor)}
    return replace(inputs, **kept)
