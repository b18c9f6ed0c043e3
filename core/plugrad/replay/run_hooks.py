"""The extensions of a captured run around what is called again, as new instances."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

from plugrad.host.advantage import BoundAdvantage
from plugrad.host.hooks import Hooks, Host
from plugrad.host.load import load_component
from plugrad.paths import working_directory
from plugrad.registry.bind import Component
from plugrad.registry.scan import scan
from plugrad.trainer.capture.capture_files import Capture


def folders_of(capture: Capture) -> list[Path]:
    """Return where files and modules are looked up: here, then where the run looked."""
    return list(dict.fromkeys([working_directory(), *map(Path, capture.facts["run_file"].get("search_paths", []))]))


def hooks_of(capture: Capture, around: Collection[str], advantage: BoundAdvantage | None = None) -> Hooks:
    """Return the hooks with those extensions of the run that have one of `around`. Without an advantage, none is called."""
    catalogue, folders = scan(), folders_of(capture)
    tables = capture.facts["run_file"].get("extension", [])
    components = [load_component("extension", t["name"], t.get("kwargs", {}), catalogue, folders) for t in tables]
    wrapping: list[tuple[Component, Any]] = [
        (component, component.create())
        for component in components
        if any(hasattr(component.target, hook) for hook in around)
    ]
    return Hooks(Host(cast(BoundAdvantage, advantage), []), wrapping)
