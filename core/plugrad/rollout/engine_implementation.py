"""The functions of an engine: how it is checked, opened and recorded. `plugrad.config.engine_kinds` lists the engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from transformers import PreTrainedModel

from plugrad.config.run_file import RunFile
from plugrad.rollout.engine import RolloutEngine
from plugrad.rollout.engine_model import EngineModel

E = TypeVar("E", bound=RolloutEngine)


@dataclass(frozen=True)
class EngineSetup:
    """What an engine may use when it opens on a rank."""

    run_file: RunFile
    policy: PreTrainedModel
    """The trainer's own model."""
    model: EngineModel
    """Describes the policy to an engine that builds its own copy."""
    is_main: bool = True
    """Whether this is the main rank."""
    on_main: Callable[[Callable[[], Any]], Any] = lambda act: act()
    """Runs a function on the main rank while the others wait; returns its result, or raises its error, on every rank."""
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
    """The precision in which the trainer computes."""


def _nothing_needed(run_file: RunFile, is_main: bool) -> Sequence[str]:
    return ()


def _nothing_to_check(run_file: RunFile, is_main: bool) -> None:
    pass


def _nothing_to_record(run_file: RunFile, engine: RolloutEngine | None) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class EngineImplementation(Generic[E]):
    """The functions of one engine."""

    open: Callable[[EngineSetup], E]
    """Opens the engine. One with its own weights then waits for `update_weights`."""
    packages: Callable[[RunFile, bool], Sequence[str]] = _nothing_needed
    """Returns the packages that a rank needs beyond plugrad's own. The second argument tells whether it is the main rank."""
    check: Callable[[RunFile, bool], None] = _nothing_to_check
    """Checks what it can before a model is loaded, and raises `EngineError`. Takes the arguments of `packages`."""
    record: Callable[[RunFile, E | None], dict[str, Any]] = _nothing_to_record
    """Returns what `plugins.json` records besides the engine's name. The engine is None until it is open."""
