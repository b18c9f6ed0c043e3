"""The report: everything in the folders of runs, on one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugrad import __version__
from plugrad.errors import RunFileError
from plugrad.registry.provenance import in_one_line
from plugrad.report.captures_shown import token_tables_of
from plugrad.report.embedded import json_in_html, page
from plugrad.report.findings_shown import findings_of
from plugrad.report.listed_samples import samples_of
from plugrad.report.number_groups import groups_of, name_of
from plugrad.report.overview import setting_of, state_of, tiles_of
from plugrad.report.reported_run import ReportedRun, names_of
from plugrad.report.step_time import is_timed, parts_of, traced_steps_of
from plugrad.shown import escaped, printable
from plugrad.trainer.record.run_diff import EarlierRun

REPORT = "report.html"
SCRIPTS = ("uplot/uPlot.iife.min.js", "page/page.js", "page/curves.js", "page/samples.js", "page/tokens.js", "page/watch.js")


@dataclass(frozen=True)
class Report:
    """A report on runs."""

    html: str
    """A page that fetches nothing."""
    passed_over: Sequence[str]
    """What could not be read, as the page says it."""


def report_html(folders: Sequence[Path], *, version: str | None = None) -> str:
    """Return the page of `report_of`."""
    return report_of(folders, version=version).html


def report_of(folders: Sequence[Path], *, version: str | None = None) -> Report:
    """Return the report on runs.

    Args:
        folders: the folders of the runs; the others are compared with the first.
        version: what the server of this page calls the present state of the folders: the page asks whether it has changed.

    Raises:
        RunFileError: a folder holds no run.
    """
    names = names_of(folders)
    runs = [ReportedRun.read(folder) for folder in folders]
    # Captures of several runs have the same names.
    tokens = [
        {**table, "title": f"{name}: {table['title']}" if len(names) > 1 else table["title"]}
        for name, run in zip(names, runs, strict=True)
        for table in token_tables_of(run.folder, run.passed_over)
    ]
    shown = [_shown(run, name, index) for index, (run, name) in enumerate(zip(runs, names, strict=True))]
    data = {
        "runs": names,
        "groups": groups_of(runs),
        **samples_of(runs),
        "tables": tokens,
        "version": version,
    }
    html = page(
        "report.html",
        scripts=SCRIPTS,
        connects=version is not None,
        title=" · ".join(names),
        runs=shown,
        differences=[(name, *_differences(runs[0], run)) for name, run in zip(names[1:], runs[1:], strict=True)],
        is_timed=is_timed(runs),
        num_numbers=len({name for run in runs for name in run.curves}),
        num_samples=data["total"],
        has_failed=any(sample["failed"] for sample in data["samples"]),
        has_tokens=bool(tokens),
        is_watched=version is not None,
        plugrad_version=__version__,
        data=json_in_html(data),
    )
    return Report(html, [text for run in runs for text in run.passed_over.texts()])


def error_html(message: str, version: str) -> str:
    """Return a page that tells why there is no report yet, and waits for one."""
    data = json_in_html({"version": version})
    scripts = ("page/page.js", "page/watch.js")
    return page("error.html", scripts=scripts, connects=True, title="plugrad report", message=escaped(message), data=data)


def _shown(run: ReportedRun, name: str, index: int) -> dict[str, Any]:
    return {
        "name": name,
        "index": index,
        "state": state_of(run),
        "tiles": tiles_of(run),
        "setting": setting_of(run),
        "run_file": run.run_file,
        "missing": run.missing,
        "parts": parts_of(run),
        "traced": traced_steps_of(run.folder, run.passed_over),
        "findings": findings_of(run.folder, run.passed_over),
        "passed_over": run.passed_over.texts(),
        "versions": [(what, printable(found)) for what, found in run.plugins.get("versions", {}).items() if found],
        "components": [
            *map(_component, run.plugins.get("components", ())),
            *(_module(*each) for each in run.plugins.get("modules", {}).items()),
        ],
        "history": [_event(line) for line in run.history],
    }


def _component(component: dict[str, Any]) -> dict[str, str]:
    origin, of_set = component.get("origin"), component.get("set")
    return {
        "kind": printable(component["kind"] + (f" of evaluation.sets.{of_set}" if of_set else "")),
        "name": printable(name_of(component)),
        "package": printable(" ".join(filter(None, (component.get("package"), component.get("version"))))),
        "target": printable(component["target"]),
        "origin": printable(in_one_line(origin)) if origin else "",
        "sha256": printable(component.get("sha256") or ""),
        "options": printable(json.dumps(component.get("options", {}), ensure_ascii=False), 2000),
    }


def _module(name: str, total: str) -> dict[str, str]:
    """Return a line for a module that the components import."""
    known = {"kind": "module", "name": printable(name), "target": printable(name), "sha256": printable(total)}
    return {"package": "", "options": "", "origin": "", **known}


def _event(line: Mapping[str, Any]) -> dict[str, str]:
    known = ("event", "step", "time")
    rest = {key: value for key, value in line.items() if key not in known and value not in (None, [], {})}
    details = "; ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in rest.items())
    return {key: printable(line.get(key, "")) for key in known} | {"details": printable(details, 2000)}


def _differences(first: ReportedRun, other: ReportedRun) -> tuple[list[tuple[str, str, str]], str]:
    """Return the differences of two runs, or none and the reason why they cannot be compared."""
    try:
        found = EarlierRun.read(first.folder).differences_from(EarlierRun.read(other.folder))
    except RunFileError as error:
        return [], str(error)
    return [(printable(each.what), _value(each.then), _value(each.now)) for each in found], ""


def _value(value: Any) -> str:
    return "\u2013" if value is None else printable(value)
