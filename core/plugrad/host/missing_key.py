"""Say what rollouts and examples have, where a plugin read a key of them that they do not have."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import FrameType, TracebackType
from typing import Any

from plugrad.errors import did_you_mean
from plugrad.host.received import WRITTEN_BY_SCORE
from plugrad.shown import printable, shown

OF_A_ROLLOUT = frozenset({"completion_ids", "reward_components", "example", "metrics"})
"""Keys by which a rollout is known."""
NESTED = {
    "reward_components": ("reward components", "The environment names them: its score returns a mapping."),
    "metrics": ("metrics", "The environment writes them in its score."),
    "info": ("entries in info", "The environment writes them in its score."),
    "example": ("columns", "They are those of the environment's examples."),
}
"""What a mapping in a rollout holds, and where that comes from."""
MOST_KEYS = 30


@dataclass(frozen=True)
class MissingKey:
    """What to say about a key that is missing."""

    seen: str
    fix: str


def missing_key(error: BaseException) -> MissingKey | None:
    """Return what to say about a `KeyError`, or None unless a rollout or an example lacks that key."""
    frame = _innermost(error.__traceback__)
    if type(error) is not KeyError or not error.args or frame is None:
        return None
    asked = error.args[0]
    read, expression = _read_by(frame)
    for rollout, metadata in _received(error.__traceback__):
        if metadata is not None and read is metadata:
            return _of_nested("example", asked, metadata, expression)
        if rollout is not None and read is rollout:
            return _of_rollout(asked, rollout, expression)
        for name in NESTED if rollout is not None else ():
            if name in rollout and read is rollout[name]:
                return _of_nested(name, asked, rollout[name], expression)
    return None


def _of_rollout(asked: object, rollout: Mapping[str, Any], expression: str) -> MissingKey:
    home = next((name for name in NESTED if asked in rollout.get(name, ())), None)
    optional = (
        f"{asked!r} is there only where the environment's score writes it"
        if asked in WRITTEN_BY_SCORE
        else ("A key beyond these is there only where the environment's score writes it")
    )
    fix = f"Write {expression}[{home!r}][{asked!r}]." if home else f"{optional}: read {expression}.get({shown(asked)})."
    return MissingKey(f"This rollout has the keys {_keys(rollout)}.{did_you_mean(str(asked), map(str, rollout))}", fix)


def _of_nested(name: str, asked: object, found: Mapping[str, Any], expression: str) -> MissingKey:
    things, source = NESTED[name]
    what = f"the {things} {_keys(found)}" if found else f"no {things}"
    seen = f"This {'example' if name == 'example' else 'rollout'} has {what}.{did_you_mean(str(asked), map(str, found))}"
    return MissingKey(seen, f"{source} Where one can be missing, read {expression}.get({shown(asked)}).")


def _keys(found: Mapping[str, Any]) -> str:
    more = len(found) - MOST_KEYS
    return ", ".join(printable(name, 60) for name in islice(found, MOST_KEYS)) + f" and {more} more" * (more > 0)


def _innermost(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback


def _read_by(traceback: TracebackType) -> tuple[Any, str]:
    """Return the object whose key a frame was reading when it raised, and the source text of it."""
    code, frame = traceback.tb_frame.f_code, traceback.tb_frame
    position = next(islice(code.co_positions(), traceback.tb_lasti // 2, None), None)
    first, last, start, end = position or (None,) * 4
    if first is None or last is None:
        return None, ""
    lines = [linecache.getline(code.co_filename, number).encode() for number in range(first, last + 1)]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    try:
        tree = ast.parse(b"".join(lines).decode().strip(), mode="eval").body
        return (_value(tree.value, frame), ast.unparse(tree.value)) if isinstance(tree, ast.Subscript) else (None, "")
    except (SyntaxError, ValueError, LookupError, TypeError):
        return None, ""


def _value(node: ast.expr, frame: FrameType) -> Any:
    """Return the value of a name with constant keys and indexes behind it. No code of the plugin's runs."""
    if isinstance(node, ast.Name):
        return frame.f_locals[node.id]
    if isinstance(node, ast.Attribute):
        return vars(_value(node.value, frame))[node.attr]
    if isinstance(node, ast.Subscript):
        holder = _value(node.value, frame)
        key: Any = node.slice.value if isinstance(node.slice, ast.Constant) else _value(node.slice, frame)
        # Another class's lookup may do anything.
        return holder[key] if isinstance(holder, dict | list | tuple) else None
    return None


def _received(traceback: TracebackType | None) -> Iterator[tuple[Any, Any]]:
    """Yield the rollouts, and the metadata, that any frame of a traceback holds, as pairs of one and None."""
    while traceback is not None:
        for value in list(traceback.tb_frame.f_locals.values()):
            yield from _in(value)
            for field in ("rollouts", "metadata"):
                yield from _in(getattr(value, "__dict__", {}).get(field), is_metadata=field == "metadata")
        traceback = traceback.tb_next


def _in(value: Any, *, is_metadata: bool = False) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _in(entry, is_metadata=is_metadata)
    elif isinstance(value, Mapping) and is_metadata:
        yield None, value
    elif isinstance(value, dict) and value.keys() >= OF_A_ROLLOUT:
        yield value, None
