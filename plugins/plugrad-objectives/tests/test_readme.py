"""The README names everything that the package offers, and nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1]
OFFERED = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]["entry-points"]


@pytest.mark.parametrize("kind", ["loss", "advantage", "metric"])
def test_every_entry_point_is_in_its_table_with_a_meaning(kind: str) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    table = text.partition(f"\n| {kind} |")[2].partition("\n\n")[0]
    lines = [tuple(line.strip("| ").split(" | ")) for line in table.splitlines() if line.startswith("| `")]
    group = {"loss": "plugrad.losses"}.get(kind, f"plugrad.{kind}s")
    assert sorted(name.strip("`") for name, _ in lines) == sorted(OFFERED[group])
    assert all(len(meaning.split()) > 3 for _, meaning in lines)


def test_every_file_is_offered() -> None:
    helpers = {"pairs"}
    for group, offered in OFFERED.items():
        folder = FOLDER / "src" / "plugrad_objectives" / group.removeprefix("plugrad.")
        files = {path.stem for path in folder.glob("*.py")} - {"__init__"} - helpers
        assert files == set(offered)
        assert not any(re.search(r"[A-Z]", name) for name in files)
