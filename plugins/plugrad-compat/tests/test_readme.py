"""The README names everything that the package offers, and nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1]
OFFERED = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]["entry-points"]
HEADINGS = {"plugrad.losses": "loss", "plugrad.advantages": "advantage", "plugrad.environments": "environment"}
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_group_has_a_table() -> None:
    assert HEADINGS.keys() == OFFERED.keys()


@pytest.mark.parametrize("group", OFFERED)
def test_every_entry_point_is_in_its_table_with_a_meaning(group: str) -> None:
    table = TEXT.partition(f"\n| {HEADINGS[group]} | what it is |")[2].partition("\n\n")[0]
    rows = dict(tuple(line.strip("| ").split(" | ")) for line in table.splitlines() if line.startswith("| `"))
    assert sorted(name.strip("`") for name in rows) == sorted(OFFERED[group])
    assert all(len(meaning.split()) > 3 for meaning in rows.values())


def test_the_losses_that_see_the_whole_batch_are_named() -> None:
    (named,) = re.findall(r"The losses ([^.]*) are called once per update", TEXT)
    assert sorted(re.findall(r"`(\w+)`", named)) == sorted(n for n in OFFERED["plugrad.losses"] if n.endswith("whole_batch"))
