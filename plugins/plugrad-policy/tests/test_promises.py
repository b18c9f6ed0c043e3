"""Run the conformance kit on every advantage, metric and extension, one test per check."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugrad.testing import Check, checks_of

FOLDER = Path(__file__).parents[1]
OFFERED = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]["entry-points"]
KINDS = {"plugrad.advantages": "advantage", "plugrad.metrics": "metric", "plugrad.extensions": "extension"}
WITH_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("grpo", {"leave_one_out": True}),
    ("grpo", {"unbiased": False}),
    ("grpo", {"leave_one_out": True, "unbiased": False}),
    ("reinforce_plus_plus", {"over": "rollouts"}),
    ("reinforce_plus_plus_baseline", {"over": "rollouts"}),
    ("passk", {"k": 2}),
    ("kl", {"against": ["inference", "old", "reference"]}),
    ("mismatch_correction", {"level": "sequence", "mode": "mask", "high": 3.0}),
    ("mismatch_correction", {"level": "geometric", "mode": "reject", "low": 0.99, "high": 1.01, "veto_below": 1e-4}),
]
STARTS_A_PROCESS = "import_effects"
"""This check takes seconds, and no module of this package has import effects."""


def checks() -> Iterator[Any]:
    """Yield every check of every component, with its defaults and with other options."""
    kinds = {name: kind for group, kind in KINDS.items() for name in OFFERED[group]}
    for name, options in [*((name, {}) for name in kinds), *WITH_OPTIONS]:
        said = "".join(f"-{option}={value}" for option, value in options.items())
        for check in checks_of(f"plugrad-policy/{name}", kind=kinds[name], options=options):
            if check.name != STARTS_A_PROCESS:
                yield pytest.param(check, id=f"{name}{said}-{check.name}")


@pytest.mark.parametrize("check", list(checks()))
def test_it_is_kept(check: Check) -> None:
    check()
