"""The findings of `plugrad diagnose` for the page."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from plugrad.shown import escaped

PARTS = ("name", "severity", "title", "evidence", "remedy")


def findings_of(folder: Path) -> list[dict[str, str]] | None:
    """Return what is found in a run; None where no diagnosis is installed."""
    try:
        diagnosis: Any = import_module("plugrad.diagnosis")
    except ModuleNotFoundError:
        return None
    return [{part: escaped(str(getattr(found, part))) for part in PARTS} for found in diagnosis.diagnose(folder)]
