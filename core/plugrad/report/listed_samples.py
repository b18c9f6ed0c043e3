"""The samples of runs as the page lists them: bounded, with what does not print made visible."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from plugrad.json_text import plain
from plugrad.report.reported_run import ReportedRun, is_number
from plugrad.shown import escaped

MOST_SAMPLES = 3000
"""Of all runs together: more would make a page that opens slowly."""
MOST_CHARACTERS = 20_000
"""Of one text."""
NUMBERS = ("step", "policy_version", "reward", "advantage", "length", "group")


def samples_of(runs: Sequence[ReportedRun]) -> dict[str, Any]:
    """Return the samples of all runs, evenly thinned if they are too many, and how many there were."""
    found = [(index, sample) for index, run in enumerate(runs) for sample in run.samples]
    count = min(len(found), MOST_SAMPLES)
    kept = [found[number * len(found) // count] for number in range(count)]
    return {"total": len(found), "samples": [_shown(index, sample) for index, sample in kept]}


def _shown(run: int, sample: Mapping[str, Any]) -> dict[str, Any]:
    rewards = sample.get("rewards")
    reference = sample.get("reference")
    return {
        "run": run,
        "phase": _text(sample.get("phase")),
        "set": _text(sample.get("set")),
        "prompt": _text(sample.get("prompt")),
        "completion": _text(sample.get("completion")),
        "failed": _text(sample.get("failed")),
        "turns": [_turn(turn) for turn in _listed(sample.get("turns")) if isinstance(turn, dict)],
        "rows": [_text(row) for row in _listed(sample.get("segments"))],
        "reference": "" if reference is None else _text(reference),
        "truncated": sample.get("truncated") is True,
        "rewards": {_text(name): _number(value) for name, value in rewards.items()} if isinstance(rewards, dict) else {},
        **{name: _number(sample.get(name)) for name in NUMBERS},
    }


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "role": _text(turn.get("role")),
        "text": _text(turn.get("text")),
        "calls": [_call(call) for call in _listed(turn.get("tool_calls")) if isinstance(call, dict)],
        **{name: _number(turn.get(name)) for name in ("reward", "length", "segment")},
    }


def _call(call: Mapping[str, Any]) -> dict[str, str]:
    """Return a tool call as Python would write it, and why it cannot be read, if so."""
    arguments = call.get("arguments")
    given = arguments.items() if isinstance(arguments, dict) else ()
    written = ", ".join(f"{name}={json.dumps(plain(value), ensure_ascii=False)}" for name, value in given)
    name = call.get("name")
    return {"call": _text(f"{name}({written})") if name else "", "error": _text(call.get("error"))}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
    left_out = f"… ({len(text):,} characters)" if len(text) > MOST_CHARACTERS else ""
    return escaped(text[:MOST_CHARACTERS]) + left_out


def _number(value: Any) -> float | None:
    return value if is_number(value) else None
