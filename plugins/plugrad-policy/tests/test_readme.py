"""The README names everything that the package offers, and nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import plugrad

FOLDER = Path(__file__).parents[1]
OFFERED = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]["entry-points"]
HEADINGS = {
    "plugrad.losses": ("loss", "term to add to another loss"),
    "plugrad.advantages": ("advantage",),
    "plugrad.metrics": ("metric",),
    "plugrad.extensions": ("extension",),
}


def rows(heading: str) -> dict[str, str]:
    """Return the rows of the table whose first column has this heading: the meaning by the names."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    table = text.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    lines = [tuple(line.strip("| ").split(" | ")) for line in table.splitlines() if line.startswith("| `")]
    return dict(lines)


def test_every_group_has_a_table() -> None:
    assert HEADINGS.keys() == OFFERED.keys()


@pytest.mark.parametrize("group", OFFERED)
def test_every_entry_point_is_in_its_table_with_a_meaning(group: str) -> None:
    found = {names: meaning for heading in HEADINGS[group] for names, meaning in rows(heading).items()}
    named = [name for names in found for name in re.findall(r"`(\w+)`", names)]
    assert sorted(named) == sorted(OFFERED[group])
    assert all(len(meaning.split()) > 3 for meaning in found.values())


def test_the_losses_that_see_the_whole_batch_are_named() -> None:
    (named,) = re.findall(r"The losses ([^.]*)\s+compare tokens", (FOLDER / "README.md").read_text(encoding="utf-8"))
    losses = {name: plugrad.load("loss", target) for name, target in OFFERED["plugrad.losses"].items()}
    facts = {name: loss.bound.component.facts for name, loss in losses.items()}
    assert sorted(re.findall(r"`(\w+)`", named)) == sorted(name for name, of_it in facts.items() if of_it.whole_batch)
    assert not any(of_it.cut_dependent for of_it in facts.values())
