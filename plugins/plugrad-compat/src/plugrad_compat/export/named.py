"""Look up a plugin by name and options on its first call, and apply it to a batch in another system's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from plugrad import (
    BatchLossInputs,
    LoadedAdvantage,
    LoadedLoss,
    Measure,
    PluginError,
    load,
)


@dataclass(frozen=True)
class Rows:
    """The result of a loss for the rows of a batch."""

    sums: Tensor
    """The sum over each row's counted tokens, 0 for a row without any: `[batch]`."""
    per_token: Tensor | None
    """`[batch, seq]`, if the loss returns values per token."""
    counted: Tensor
    """The tokens that count, `[batch, seq]`."""
    metrics: dict[str, float]


@dataclass(frozen=True)
class NamedLoss:
    """A loss for a system that can provide some of the optional fields."""

    name: str
    options: Mapping[str, Any]
    system: str
    gives: frozenset[str]

    @cached_property
    def loss(self) -> LoadedLoss:
        """The loss.

        Raises:
            PluginError: it is not installed, or needs something that the system does not provide.
            OptionError: it does not take these options.
        """
        found: LoadedLoss = load("loss", self.name, **self.options)
        lacking = sorted(found.needs - self.gives)
        if lacking:
            raise PluginError(
                f"the loss {self.name!r} needs {', '.join(lacking)}, which {self.system} does not pass to a loss. It passes "
                f"{', '.join(sorted(self.gives)) or 'only log-probs and advantages'}."
            )
        return found

    def rows(self, inputs: BatchLossInputs) -> Rows:
        """Return the loss of each row, in float32 at least. Rows without counted tokens never reach the loss."""
        mask = inputs.loss_mask
        counting = mask.any(dim=1)
        # What is masked may be NaN.
        nothing = torch.where(mask, inputs.trainer_logprobs, 0.0) * 0
        if not bool(counting.any()):
            return Rows(nothing.sum(dim=1), nothing, mask, {})
        outputs = self.loss(_kept(inputs, counting))
        nothing = nothing.to(outputs.loss)
        metrics = {key: number(value) for key, value in outputs.metrics.items()}
        if outputs.loss.ndim == 1:
            return Rows(nothing.sum(dim=1).index_put((counting,), outputs.loss), None, mask, metrics)
        counted = torch.where(mask[counting], outputs.loss, 0.0)
        sums = nothing.sum(dim=1).index_put((counting,), counted.sum(dim=1))
        return Rows(sums, nothing.index_put((counting,), counted), mask, metrics)


def named_loss(name: str, options: Mapping[str, Any], system: str, gives: frozenset[str]) -> NamedLoss:
    """Return the loss of that name with these options, the same instance on every call."""
    key = (system, name, repr(sorted(options.items())))
    return _LOSSES.setdefault(key, NamedLoss(name, options, system, gives))


def named_advantage(name: str, options: Mapping[str, Any]) -> LoadedAdvantage:
    """Return the advantage of that name with these options, the same instance on every call since it may have state."""
    key = (name, repr(sorted(options.items())))
    if key not in _ADVANTAGES:
        _ADVANTAGES[key] = load("advantage", name, **options)
    return _ADVANTAGES[key]


_LOSSES: dict[tuple[str, str, str], NamedLoss] = {}
_ADVANTAGES: dict[tuple[str, str], LoadedAdvantage] = {}


def number(value: Tensor | Measure | float) -> float:
    """Return a metric as a plain number."""
    if isinstance(value, Measure):
        return value.value()
    return float(value.detach().double().mean()) if isinstance(value, Tensor) else float(value)


def weighted(rows: Rows, weights: Tensor, name: str, what: str) -> Tensor:
    """Return each row's sum with a weight on every token.

    Raises:
        PluginError: the loss has no values per token.
    """
    if rows.per_token is None:
        raise PluginError(f"the loss {name!r} works on whole sequences, but {what} weight tokens. They cannot be combined.")
    return (rows.per_token * torch.where(rows.counted, weights, 0.0)).sum(dim=1)


def _kept(inputs: BatchLossInputs, counting: Tensor) -> BatchLossInputs:
    kept: dict[str, Any] = {name: value[counting] for name, value in vars(inputs).items() if isinstance(value, Tensor)}
    return replace(inputs, **kept)
