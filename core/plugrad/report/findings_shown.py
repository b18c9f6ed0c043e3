"""The findings of `plugrad diagnose` for the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from plugrad.contracts.run_records import RunRecords
from plugrad.diagnosis.diagnosing import found_in
from plugrad.diagnosis.record_reading import PLUGINS, RUN_FILE, read_records
from plugrad.errors import RunFileError
from plugrad.report.passed_over import PassedOver
from plugrad.shown import escaped

PARTS = ("name", "severity", "title", "evidence", "remedy")


def findings_of(folder: Path, passed_over: PassedOver) -> list[dict[str, str]] | None:
    """Return what is found in a run; None where its folder lacks what is looked at, or that cannot be read.

    Of its extensions only those are asked that are installed under a name. A run folder may name any file or module, and to
    look at a run must not run what it brings.
    """
    try:
        found = found_in(_of_installed(read_records(folder)))
    except RunFileError as error:
        if all((folder / name).is_file() for name in (RUN_FILE, PLUGINS)):
            passed_over.tell(folder, f"There are no findings: {error}")
        return None
    return [{part: escaped(str(getattr(each, part))) for part in PARTS} for each in found]


def _of_installed(records: RunRecords) -> RunRecords:
    listed = records.run_file.get("extension", [])
    extensions = [table for table in listed if isinstance(table, dict) and ":" not in str(table.get("name"))]
    return replace(records, run_file={**records.run_file, "extension": extensions})
