"""Read JSON that others wrote: whatever it holds, an error is short and says where."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from plugrad.errors import DataError
from plugrad.paths import read_bytes
from plugrad.shown import printable, shown

BYTE_ORDER_MARKS = {
    b"\xff\xfe": "the byte-order mark of UTF-16 or UTF-32",
    b"\xfe\xff": "the byte-order mark of UTF-16",
    b"\x00\x00\xfe\xff": "the byte-order mark of UTF-32",
    b"\xef\xbb\xbf": "a byte-order mark",
}
HALF = re.compile("[\ud800-\udfff]")
AROUND = 40
"""Characters of a text before and after the place that a message shows."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
SAVE_AS = "Save it as UTF-8 without a byte-order mark."


def json_of(value: Any) -> str:
    """Return a value as indented JSON with a line feed. Numbers that are not finite become texts, as `plain` has them."""
    return json.dumps(plain(value), indent=2, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Return a value with the numbers that JSON does not have as texts: "inf", "-inf" and "nan", as TOML writes them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def parse_json(text: str | bytes, what: str = "it", *, has_constants: bool = False) -> Any:
    """Return what a JSON text holds.

    Args:
        text: the text; bytes must be UTF-8.
        what: whose text this is. Messages begin with it.
        has_constants: whether Python's `Infinity` and `NaN` are read, as the texts that `plain` makes of them.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or holds NaN, an infinite number, an integer of too many digits, or
            a key twice.
    """
    constant = (lambda name: str(float(name))) if has_constants else _refuse_constant
    try:
        return json.loads(decoded(text), object_pairs_hook=_object, parse_float=_finite, parse_constant=constant)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{what} is not JSON: {error.msg} at {place}") from error
    except RecursionError as error:
        raise ValueError(f"{what} is nested too deeply") from error
    except _Refused as error:
        raise ValueError(f"{what} {error}") from error
    except ValueError as error:
        # Of int(), whose time is quadratic in the number of digits.
        raise ValueError(f"{what} has an integer of more digits than Python reads") from error


def read_json_lines(
    path: str | Path,
    *,
    skip_empty: bool = False,
    what: str = "examples",
    leaves_out_half_a_line: bool = False,
    pass_over: Callable[[DataError], object] | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line of a JSON-lines file, such as an environment's examples.

    Args:
        path: the file, in UTF-8.
        skip_empty: whether to skip empty lines, which are refused otherwise.
        what: what the lines are, for the message of a file that cannot be read.
        leaves_out_half_a_line: whether a last line without a line feed is left out: its writer is at it, or was killed.
        pass_over: what gets the error of a line that is passed over. Without it, the first such line ends the reading.

    Raises:
        DataError: the file cannot be read or is not a regular one, or a line is not one JSON object, has a key twice, has a
            number that is not finite or too long, or has half of a surrogate pair. It names the file and the line.
    """
    try:
        content = read_bytes(Path(path))
    except (OSError, ValueError) as error:
        raise DataError(f"the {what} {shown(str(path))} cannot be read: {printable(error)}.") from error
    if leaves_out_half_a_line:
        content = content[: content.rfind(b"\n") + 1]
    # Not splitlines(): JSON strings may contain Unicode line separators.
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    for number, line in enumerate(lines, start=1):
        if skip_empty and not line.strip():
            continue
        try:
            found = _object_of(line, f"{printable(path)}, line {number}")
        except DataError as error:
            if pass_over is None:
                raise
            pass_over(error)
        else:
            yield number, found


def _object_of(line: bytes, where: str) -> dict[str, Any]:
    if not line.strip():
        raise DataError(f"{where} is empty: each line is one JSON object. Delete the line.")
    try:
        found = parse_json(line, where)
    except ValueError as error:
        raise DataError(f"{error}. Each line is one object: correct the line.") from error
    if not isinstance(found, dict):
        raise DataError(f"{where} is {type(found).__name__}; each line is one JSON object.")
    if SURROGATE.search(line.decode()):
        column = next((name for name, value in found.items() if half_of_a_pair([name, value])), None)
        if column is not None:
            raise DataError(
                f"{where}: the column {shown(column)} has {half_of_a_pair([column, found[column]])}. Correct the line."
            )
    return found


def half_of_a_pair(value: Any) -> str | None:
    """Return what to say about a text in a value that no tokenizer reads: it has half of a surrogate pair, as JSON may.

    Returns:
        The words "half of a surrogate pair, which ...: 'the words around it'", or None if every text is Unicode.
    """
    # Not by recursion: JSON may be nested as deeply as Python recurses.
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            match = HALF.search(part)
            if match:
                words = _around(part, match.start())
                return f"half of a surrogate pair, which is no character and cannot be tokenized: {words!a}"
        elif isinstance(part, Mapping):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, Sequence) and not isinstance(part, bytes):
            waiting += part
    return None


def _around(text: str, place: int) -> str:
    """Return the words around a place in a text, "..." where words are left out."""
    start, end = max(place - AROUND, 0), place + AROUND
    before, after = text[start:place], text[place:end]
    if start and " " in before:
        before = before.partition(" ")[2]
    if end < len(text) and " " in after:
        after = after.rpartition(" ")[0]
    return f"{'...' * (start > 0)}{before}{after}{'...' * (end < len(text))}"


def decoded(text: str | bytes) -> str:
    """Return a text in UTF-8 without a byte-order mark.

    Raises:
        ValueError: it is in another encoding. The message says which, and goes on after a name.
    """
    if isinstance(text, str):
        return text
    for mark, name in BYTE_ORDER_MARKS.items():
        if text.startswith(mark):
            raise _Refused(f"starts with {name}. {SAVE_AS}".rstrip("."))
    if b"\0" in text:
        raise _Refused(f"has a NUL character, as a text in UTF-16 has. {SAVE_AS}".rstrip("."))
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise _Refused(f"is not UTF-8: byte {error.start + 1} is {text[error.start]:#04x}. {SAVE_AS}".rstrip(".")) from error


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names: set[str] = set()
        twice = next(name for name, _ in pairs if name in names or names.add(name))  # type: ignore[func-returns-value]
        raise _Refused(f"has the key {shown(twice)} twice")
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _Refused(f"has the number {printable(digits, 40)}, which is beyond what a float can hold")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise _Refused(f"has the number {name}, which JSON does not have: only finite numbers")


class _Refused(ValueError):
    """What a text has or is, without its name."""
