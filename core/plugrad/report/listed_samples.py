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
        "completion": _text(f"play failed: {sample['failed']}" if sample.get("failed") else sample.get("completion")),
        "reference": "" if reference is None else _text(reference),
        "truncated": sample.get("truncated") is True,
        "rewards": {_text(name): _number(value) for name, value in rewards.items()} if isinstance(rewards, dict) else {},
        **{name: _number(sample.get(name)) for name in NUMBERS},
    }


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
    left_out = f"… ({len(text):,} characters)" if len(text) > MOST_CHARACTERS else ""
    return escaped(text[:MOST_CHARACTERS]) + left_out


def _number(value: Any) -> float | None:
    return value if is_number(value) else None
