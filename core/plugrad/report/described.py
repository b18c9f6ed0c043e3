"""What a component of a run says of its numbers, read from its source. Nothing that a run folder names is ever imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from inspect import cleandoc
from pathlib import Path
from typing import Any

from plugrad.paths import read_bytes
from plugrad.registry.modules import find_module
from plugrad.scaffold.docstring_sections import sections_in

PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+|\{\w+\}|<\w+>")


@dataclass(frozen=True)
class Description:
    """The first line of a component's docstring, and what it says of each number."""

    summary: str = ""
    reports: Mapping[str, str] = field(default_factory=dict)

    def caption(self, name: str) -> str:
        """Return what it says of a number, without the component's label; names such as `compute_loss/NAME_s` match any."""
        if name in self.reports:
            return self.reports[name]
        return next((text for written, text in self.reports.items() if _pattern(written).fullmatch(name)), "")


def description_of(component: Mapping[str, Any]) -> Description:
    """Return what the docstring of a recorded component says, empty if its source is not there or is another one.

    The record may name any file. Only one that still has the recorded SHA-256 is read for its docstring.
    """
    place, _, attribute = component["target"].rpartition(":")
    source = _source(place, component.get("sha256"))
    try:
        tree = ast.parse(source or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Description()
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [node for node in tree.body if isinstance(node, kinds) and node.name == attribute]
    own = found[-1:]
    own += [node for owner in own for node in owner.body if isinstance(node, kinds) and node.name == "__init__"]
    sections = [sections_in(cleandoc(ast.get_docstring(node) or "")) for node in own]
    reports = {name: text for each in sections for name, text in each.reports.items()}
    return Description(sections[0].summary if sections else "", reports)


def _source(place: str, digest: str | None) -> bytes | None:
    if place.endswith(".py"):
        path = Path(place)
    else:
        spec = find_module(place)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return None
        path = Path(spec.origin)
    try:
        source = read_bytes(path)
    except (OSError, ValueError):
        return None
    return source if sha256(source).hexdigest() == digest else None


def _pattern(written: str) -> re.Pattern[str]:
    return re.compile(".+".join(map(re.escape, PLACEHOLDER.split(written))))
