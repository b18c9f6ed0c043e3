"""A reward of one's own: a function of the completion's text and the line's columns."""

from collections.abc import Mapping
from typing import Any


def exact_answer(completion: str, example: Mapping[str, Any]) -> float:
    """Return 1 if the last line of the completion is the reference."""
    lines = completion.strip().splitlines()
    return float(bool(lines) and lines[-1].strip() == example["reference"])
