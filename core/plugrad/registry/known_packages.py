"""The components of the directory's packages, for names that nothing installed offers. docs/reference.py writes them."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from plugrad.errors import did_you_mean
from plugrad.registry.scan import Kind

FILE = "known_packages.json"


@cache
def known_packages() -> dict[str, dict[str, dict[str, str]]]:
    """Return, by kind and name of a component, the package that has it and how to install that."""
    known: dict[str, dict[str, dict[str, str]]] = json.loads((files(__package__) / FILE).read_text(encoding="utf-8"))
    return known


def known_elsewhere(kind: Kind, name: str) -> str:
    """Return the sentence that names the package of the directory with this component, or one that is spelt alike."""
    of_kind = known_packages().get(kind, {})
    if name in of_kind:
        return f" {of_kind[name]['package']} has it, which is not installed: {of_kind[name]['install']}."
    hint = did_you_mean(name, of_kind)
    near = next((known for known in of_kind if repr(known) in hint), None)
    return f"{hint} {of_kind[near]['package']} has that one, not installed: {of_kind[near]['install']}." if near else ""
