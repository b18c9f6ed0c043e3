"""`plugrad diagnose`: say what went wrong in a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from plugrad.cli.reporting import reporting
from plugrad.cli.shared_options import TRACEBACK

if TYPE_CHECKING:
    from plugrad.contracts.finding import Finding
    from plugrad.contracts.run_records import RunRecords

STYLES = {"problem": "bold red", "warning": "bold yellow"}


def diagnose(
    run: Annotated[Path, typer.Argument(help="The run folder. The run may still go on.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    show_traceback: Annotated[bool, TRACEBACK] = False,
) -> None:
    """Say what went wrong in a run: what is seen in which numbers, and which key to set.

    A problem keeps the run from learning; a warning is worth a look. It reads
    metrics.jsonl, and samples.jsonl if the run kept samples, and imports the
    extensions of the run that look at records. Exit code 0, whatever is found.
    """
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.diagnosis.diagnosing import found_in
        from plugrad.diagnosis.record_reading import read_records

        records = read_records(run)
        findings = found_in(records)
        if as_json:
            facts = {"folder": str(run), "steps": records.num_steps, "findings": list(map(asdict, findings))}
            console.print(json.dumps(facts, indent=2), soft_wrap=True)
        else:
            _print(findings, records, console)


def _print(findings: Sequence[Finding], records: RunRecords, console: Console) -> None:
    from plugrad.diagnosis.diagnosing import not_looked_at

    if not findings:
        console.print(f"Nothing stands out in {records.num_steps} steps.", soft_wrap=True)
    for finding in findings:
        title = Text(f"{finding.severity}: {finding.title}", style=STYLES.get(finding.severity, ""))
        console.print(title.append(f"  ({finding.name})", style="dim"), soft_wrap=True)
        console.print(f"  seen    {finding.evidence}", soft_wrap=True)
        console.print(f"  do      {finding.remedy}", soft_wrap=True)
    if note := not_looked_at(records):
        console.print(note, soft_wrap=True)
