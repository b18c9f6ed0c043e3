"""Where in its author's code a plugin raised, and whether it read an input that it did not ask for."""

from __future__ import annotations

import linecache
import os
import re
import sys
import traceback
from types import FrameType
from typing import Any

from plugrad.contracts.needs import ALWAYS_GIVEN, KNOWN_NEEDS
from plugrad.errors import WronglyMade
from plugrad.shown import text_of

SERVANTS = frozenset({"plugrad", "torch", "numpy", "jaxtyping", "beartype", "pluggy", "functools"})
"""Top-level modules that call an author's code, or are called by it."""
HOSTS_CALL = "plugrad.host.calling"
"""The module whose functions call an author's code."""
KIND_OF_INPUTS = {
    "LossInputs": "loss",
    "BatchLossInputs": "loss",
    "AdvantageInputs": "advantage",
    "MetricInputs": "metric",
}


WRITTEN_AS = {"again": r"\.(again|sensitivity)\b"}
"""What an author writes to read a field, where it is not its name alone."""


def line_of(error: BaseException) -> str | None:
    """Return `file:line` of the author's innermost line in the traceback of `error`, or None if there is none."""
    frames = _authors_frames(error)
    if not frames:
        return None
    frame, line = frames[-1]
    return f"{_short(frame.f_code.co_filename)}:{line}"


def line_in(frame: FrameType | None) -> str | None:
    """Return `file:line` of the author's innermost line among a frame and its callers, or None outside of any call."""
    line = None
    while frame is not None and frame.f_globals.get("__name__") != HOSTS_CALL:
        if line is None and _is_authors(frame):
            line = f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return line if frame else None


def fields_missing(inputs: Any, error: BaseException) -> list[str]:
    """Return the optional fields of `inputs` that are None, and whose use is the reason for `error`.

    The author's code names them, in the line that raised if any line does, and Python or a contract complains about None.
    """
    if not isinstance(error, AssertionError | WronglyMade) and "NoneType" not in text_of(error) and not _has_no(error):
        return []
    needs = KNOWN_NEEDS.get(KIND_OF_INPUTS.get(type(inputs).__name__, ""), frozenset()) - ALWAYS_GIVEN
    absent = [name for name in sorted(needs) if getattr(inputs, name, None) is None]
    absent += ["parameters"] if getattr(inputs, "parameters", needs) is None else []
    frames = _authors_frames(error)
    lines = " ".join(linecache.getline(frame.f_code.co_filename, line) for frame, line in frames)
    named = {name for frame, _ in frames for name in frame.f_code.co_names}
    in_line = [name for name in absent if re.search(WRITTEN_AS.get(name, rf"\b{name}\b"), lines)]
    return in_line or [name for name in absent if name in named]


def _has_no(error: BaseException) -> bool:
    """Return whether an author asked one sequence for what only a micro-batch has."""
    of_inputs = isinstance(error, AttributeError) and type(error.obj).__name__ in KIND_OF_INPUTS
    return of_inputs and error.name in {"again", "sensitivity"}  # type: ignore[attr-defined]


def kind_of(inputs: Any) -> str:
    """Return the kind of plugin that receives these inputs."""
    return KIND_OF_INPUTS[type(inputs).__name__]


def asked_for(inputs: Any) -> list[str]:
    """Return the optional fields of `inputs` that are there."""
    return [name for name in sorted(KNOWN_NEEDS[kind_of(inputs)] - ALWAYS_GIVEN) if getattr(inputs, name, None) is not None]


def _authors_frames(error: BaseException) -> list[tuple[FrameType, int]]:
    return [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_authors(frame)]


def _is_authors(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    top = module.partition(".")[0]
    return (top not in SERVANTS and top not in sys.stdlib_module_names) or module.startswith("plugrad.standard.")


def _short(path: str) -> str:
    try:
        relative = os.path.relpath(path)
    except (ValueError, OSError):
        return path
    return path if relative.startswith("..") else relative
