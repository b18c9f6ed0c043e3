"""`plugrad plugins doctor`: print each problem with the installed plugins, what it means and how to fix it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from plugrad import __version__
from plugrad.registry.findings import Finding, examine
from plugrad.registry.foreign_entry_points import read_foreign_entry_points
from plugrad.registry.scan import Catalogue, survey

INDENT = len("problem  ")


def print_findings(console: Console, *, as_json: bool) -> bool:
    """Print what is wrong with the installed plugins, without importing them. Return whether nothing is."""
    catalogue = survey()
    findings = examine(catalogue, read_foreign_entry_points())
    if as_json:
        console.print(json.dumps(_as_json(findings), indent=2), soft_wrap=True)
    else:
        _print(findings, catalogue, console)
    return not any(finding.is_problem for finding in findings)


def _print(findings: Sequence[Finding], catalogue: Catalogue, console: Console) -> None:
    for finding in findings:
        label = Text("problem", "bold red") if finding.is_problem else Text("warning", "bold yellow")
        parts = (finding.found, finding.means, finding.remedy)
        if console.is_terminal:
            table = Table.grid(padding=(0, 2))
            table.add_row(label, "\n".join(parts))
            console.print(table, "", sep="\n")
        else:
            # Whole lines, for grep.
            console.print(
                Text(f"\n{' ' * INDENT}").join([label + f"  {parts[0]}", *map(Text, parts[1:])]),
                "",
                sep="\n",
                soft_wrap=True,
            )
    console.print(_verdict(findings, catalogue), soft_wrap=True)


def _verdict(findings: Sequence[Finding], catalogue: Catalogue) -> str:
    packages = {entry.package for entry in catalogue.entries}
    looked_at = f"{_count(len(catalogue.entries), 'component')} in {_count(len(packages), 'package')}"
    problems = sum(finding.is_problem for finding in findings)
    counts = [(problems, "problem"), (len(findings) - problems, "warning")]
    verdict = " and ".join(_count(count, noun) for count, noun in counts if count) or "nothing is wrong"
    return f"plugrad {__version__}, {looked_at}: {verdict}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    described = [{"severity": "problem" if f.is_problem else "warning", **asdict(f)} for f in findings]
    return {"plugrad": __version__, "findings": described}
