"""The tests of an example, as datasets write them: Python that raises, or inputs and outputs of a program."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

FORMS = (
    "Tests are Python code (text, or a list of texts), or what a program reads and writes: a list of "
    '{"input": "1 2", "output": "3"}, or {"inputs": ["1 2"], "outputs": ["3"]}; either may be JSON text'
)


@dataclass(frozen=True)
class ProgramTest:
    """What a program reads from standard input, and has to write to standard output."""

    text: str
    output: str

    def passes(self, written: str) -> bool:
        """Return whether it is the output. Space at the ends of lines, and lines without text at the end, do not count."""
        return _plain(written) == _plain(self.output)


def tests_of(value: object) -> list[str] | list[ProgramTest]:
    """Return the tests that the column of an example holds.

    Raises:
        ValueError: it holds none, or something else.
    """
    found = _read_json(value) if isinstance(value, str) else value
    tests = _of_lists(found) if isinstance(found, Mapping) else _of_list(found)
    if not tests:
        raise ValueError(FORMS)
    return tests


def _read_json(text: str) -> object:
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        # Else it is Python, such as `0`.
        if isinstance(found, dict) or (isinstance(found, list) and found and isinstance(found[0], dict | str)):
            return found
    return [text] if text.strip() else []


def _of_lists(found: Mapping[str, Any]) -> list[ProgramTest]:
    if found.get("fn_name"):
        raise ValueError(f"they are calls of the function {found['fn_name']!r}, which is not supported. {FORMS}")
    inputs, outputs = found.get("inputs"), found.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError(FORMS)
    return [_program_test(text, output) for text, output in zip(inputs, outputs, strict=True)]


def _of_list(found: object) -> list[str] | list[ProgramTest]:
    if not isinstance(found, list):
        raise ValueError(FORMS)
    if all(isinstance(test, str) for test in found):
        return found
    if not all(isinstance(test, Mapping) for test in found):
        raise ValueError(FORMS)
    return [_program_test(test.get("input"), test.get("output")) for test in found]


def _program_test(text: object, output: object) -> ProgramTest:
    return ProgramTest(_joined(text), _joined(output))


def _joined(value: object) -> str:
    """Return text; some datasets have a list of lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    raise ValueError(FORMS)


def _plain(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
