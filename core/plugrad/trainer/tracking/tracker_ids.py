"""`tracking/ids.json` in the run folder: with which run of each tracker a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from plugrad.json_text import json_of, parse_json
from plugrad.paths import read_bytes, replace_bytes

IDS = "ids.json"


def read_ids(folder: Path) -> dict[str, str]:
    """Return the ids by tracker; those that cannot be read are none."""
    try:
        found = parse_json(read_bytes(folder / IDS))
    except (OSError, ValueError):
        return {}
    return {name: each for name, each in found.items() if isinstance(each, str)} if isinstance(found, dict) else {}


def write_ids(folder: Path, ids: Mapping[str, str]) -> None:
    """Write the ids by tracker.

    Raises:
        OSError: the file cannot be written.
    """
    replace_bytes(folder / IDS, json_of(ids).encode())
