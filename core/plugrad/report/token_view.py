"""The token view: completions whose tokens are coloured by a value, such as the gradient of a loss at each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plugrad.report.embedded import json_in_html, page
from plugrad.report.reported_run import is_number
from plugrad.shown import escaped

SCRIPTS = ("page/page.js", "page/tokens.js")


def token_view_html(table: Mapping[str, Any], title: str = "Token view") -> str:
    """Return a page of its own that shows a table of tokens and fetches nothing.

    Args:
        table: as `TokenTable.to_json()` returns it: `sequences`, each with `title`, `step`, `reward`, `tokens`,
            `prompt_length`, `counted`, `values` and `marks`.
        title: of the page.
    """
    data = json_in_html({"tables": [shown_table(table)]})
    return page("token_view.html", scripts=SCRIPTS, title=escaped(title), data=data)


def shown_table(table: Mapping[str, Any], title: str = "", notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return a table with every text made visible and every number one that JSON has, and notes that stand above it."""
    sequences = [_sequence(each) for each in table["sequences"]]
    return {"title": escaped(title), "notes": [escaped(note) for note in notes], "sequences": sequences}


def _sequence(sequence: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": escaped(str(sequence["title"])),
        "step": _number(sequence.get("step")),
        "reward": _number(sequence.get("reward")),
        "tokens": [escaped(str(token)) for token in sequence["tokens"]],
        "prompt_length": int(sequence["prompt_length"]),
        "counted": [bool(each) for each in sequence["counted"]],
        "values": {escaped(str(name)): _numbers(values) for name, values in sequence["values"].items()},
        "marks": {escaped(str(name)): [bool(each) for each in marks] for name, marks in sequence["marks"].items()},
    }


def _numbers(values: Sequence[Any]) -> list[float | None]:
    """Return numbers with six digits; None for what is none, as NaN is."""
    return [_number(value) for value in values]


def _number(value: Any) -> float | None:
    return float(f"{value:.6g}") if is_number(value) else None
