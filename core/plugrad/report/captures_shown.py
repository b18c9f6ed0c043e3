"""The captures of a run as token views of its page."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from plugrad.report.run_records import CAPTURES
from plugrad.report.token_view import shown_table


def token_tables_of(folder: Path) -> list[dict[str, Any]]:
    """Return a table of tokens for each capture in a run's folder; none where nothing can read captures."""
    captures = sorted(path for path in (folder / CAPTURES).glob("step_*") if path.is_dir())
    if not captures:
        return []
    try:
        replay: Any = import_module("plugrad.replay.token_table")
    except ModuleNotFoundError:
        return []
    return [shown_table(replay.table_of_capture(path).to_json(), path.name) for path in captures]
