"""Refuse losses that tell completions apart by their place where the engine samples them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from plugrad.config.engine_kinds import EngineKind, engines_where
from plugrad.errors import PluginError, RunFileError
from plugrad.host.loss import BoundLoss
from plugrad.registry.bind import Component
from plugrad.registry.blame import Blamed, told
from plugrad.registry.options import options_of


def check_replayed(losses: Sequence[BoundLoss], engine: EngineKind) -> None:
    """Check that the engine replays completions if a loss needs that.

    Raises:
        RunFileError: it samples them.
        PluginError: a loss cannot tell whether it needs that.
    """
    if not engine.samples:
        return
    for loss in losses:
        if _is_replayed(loss, loss.component.options):
            samples = next(_of_samples(loss), "")
            raise RunFileError(
                f"{loss.component} tells the completions of an example apart by their place among its `references`, and the "
                f"engine {engine.name!r} samples them: the first is as good as any other. Replay them with rollout.engine = "
                f"{engines_where(lambda kind: not kind.samples)} and a column `references`"
                f"{f', or let it tell sampled ones apart with {samples} under [loss.kwargs]' if samples else ''}."
            )


def _of_samples(loss: BoundLoss) -> Iterator[str]:
    """Yield the choices of an option with which the loss takes sampled completions."""
    component = loss.component
    for option in options_of(component.source, component.target):
        for choice in get_args(option.annotation) if get_origin(option.annotation) is Literal else ():
            if not _is_replayed(loss, {**component.options, option.name: choice}):
                yield f'{option.name} = "{choice}"'


def _is_replayed(loss: BoundLoss, options: Mapping[str, Any]) -> bool:
    stated: bool | Callable[[Mapping[str, Any]], bool] = loss.facts.replayed
    if not callable(stated):
        return stated
    with Blamed(str(loss.component), lambda error: _unknown(loss.component, error)):
        return bool(stated(options))


def _unknown(component: Component, error: BaseException) -> PluginError:
    return PluginError(
        f"{component} cannot tell whether completions are replayed: its `replayed` function raised {told(error)}"
    )
