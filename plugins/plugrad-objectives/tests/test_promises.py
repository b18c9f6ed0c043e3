"""Run the conformance kit on everything the package offers, one test per check."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugrad.testing import Check, checks_of

FOLDER = Path(__file__).parents[1]
OFFERED = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]["entry-points"]
KINDS = {"plugrad.losses": "loss", "plugrad.advantages": "advantage", "plugrad.metrics": "metric"}
WITH_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("gae", {"whiten": False}),
    ("gae", {"gamma": 0.9, "lam": 1.0}),
    ("dpo", {"kind": "hinge"}),
    ("dpo", {"kind": "ipo", "mean_over_tokens": True}),
    ("dpo", {"label_smoothing": 0.1}),
    *((name, {"by": "reward"}) for name in ("dpo", "simpo", "orpo", "bradley_terry")),
    ("bradley_terry", {"center": 0.01}),
    ("focal", {"gamma": 0.5}),
    ("distillation", {"kind": "reverse", "temperature": 2.0}),
    ("distillation", {"kind": "jsd", "beta": 0.3}),
    *(("gkd", {"beta": beta}) for beta in (0.0, 0.1, 1.0)),
    ("opd", {"reward_weight": 0.5}),
    ("adversarial", {"kind": "sign", "alpha": 0.5}),
]
REQUIRED: dict[str, dict[str, Any]] = {"multi_task": {"tasks": ["sums", "proofs"]}}
EXAMPLES = {"multi_task": {"task": "proofs"}}
"""Columns of the examples that a loss reads."""
PROCESSES = {"import_effects", "one_rank_equals_two"}
"""Checks that start processes, seconds each."""
IN_PROCESSES = {"value_clip", "dpo", "bradley_terry", "contrastive", "distillation", "multi_task", "adversarial"}
"""The losses that two ranks are tried with: of a critic, of pairs, of both, of embeddings, of a teacher, with parameters and
with another pass."""


def checks() -> Iterator[Any]:
    """Yield every check of every component, with its defaults and with other options."""
    offered = [(name, kind) for group, kind in KINDS.items() for name in OFFERED[group]]
    tried = [(name, kind, REQUIRED.get(name, {})) for name, kind in offered]
    tried += [(name, kind, options) for name, options in WITH_OPTIONS for of, kind in offered if of == name]
    for name, kind, options in tried:
        said = "".join(f"-{option}={value}" for option, value in options.items())
        for check in checks_of(f"plugrad-objectives/{name}", kind=kind, options=options, example=EXAMPLES.get(name)):
            in_processes = name in IN_PROCESSES and options == REQUIRED.get(name, {})
            if check.name not in PROCESSES or (in_processes and check.name == "one_rank_equals_two"):
                yield pytest.param(check, id=f"{kind}-{name}{said}-{check.name}")


@pytest.mark.parametrize("check", list(checks()))
def test_it_is_kept(check: Check) -> None:
    check()
