"""What the extensions of a run find in its records. One that fails is reported, and ends nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from plugrad.config.run_file import RunFile
from plugrad.config.tables.component_tables import ExtensionTable
from plugrad.contracts.finding import Finding
from plugrad.contracts.run_records import RunRecords
from plugrad.errors import ContractError, PlugradError
from plugrad.registry.blame import Blamed, advice_for, told

HOOK = "find_in_records"


def found_by_extensions(records: RunRecords) -> Iterator[Finding]:
    """Yield what the extensions of the run file find."""
    if not records.run_file.get("extension"):
        return
    try:
        run_file = RunFile(**records.run_file)
    except PlugradError as error:
        yield _failed("the extensions of the run", error)
        return
    for table in run_file.extension:
        try:
            yield from _found_by(table, run_file, records)
        except PlugradError as error:
            yield _failed(f"the extension {table.name!r}", error)


def _found_by(table: ExtensionTable, run_file: RunFile, records: RunRecords) -> Sequence[Finding]:
    # Only where there is an extension: they import torch.
    from plugrad.host.load import load_component
    from plugrad.registry.disable import without
    from plugrad.registry.manager import build_manager
    from plugrad.registry.scan import scan

    catalogue = without(scan(refused_folders=run_file.folders), run_file.plugins.disable)
    component = load_component("extension", table.name, table.kwargs, catalogue, run_file.folders)
    if isinstance(component.target, type) and not hasattr(component.target, HOOK):
        return []
    manager = build_manager(object(), [(component, component.create())])
    owner = str(component)
    with Blamed(owner, lambda error: ContractError(f"{owner} in its {HOOK}: it raised {told(error)}{advice_for(error)}")):
        results = getattr(manager.hook, HOOK)(records=records)
        findings = [finding for result in results for finding in result]
    wrong = next((finding for finding in findings if not _is_whole(finding)), None)
    if wrong is not None:
        raise ContractError(
            f"{owner}: {HOOK} returned {type(wrong).__name__}; return plugrad.Finding, whose fields are texts."
        )
    return findings


def _is_whole(finding: Any) -> bool:
    return isinstance(finding, Finding) and all(isinstance(value, str) for value in vars(finding).values())


def _failed(owner: str, error: PlugradError) -> Finding:
    return Finding(
        "extension_failed",
        "warning",
        f"{owner[0].upper()}{owner[1:]} could not look at the records",
        str(error),
        "Tell its author, or correct it. All other findings are complete.",
    )
