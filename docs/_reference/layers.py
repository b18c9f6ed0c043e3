"""Who imports whom, as a table made from the contract that the import linter checks."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from _reference.markdown import table


def layer_table(pyproject: Path) -> str:
    """Return a row for each module, those of the highest layer first: a module may import from the layers below its own."""
    from_top = layers(pyproject)
    rows = [
        (str(len(from_top) - depth), f"`{module.partition('.')[2]}`", _summary(module, pyproject.parent / "core"))
        for depth, layer in enumerate(from_top)
        for module in layer
    ]
    return table(("layer", "module", "what is in it"), rows)


def layers(pyproject: Path) -> list[list[str]]:
    """Return the modules of each layer, the highest first."""
    contracts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (contract,) = [contract for contract in contracts if contract["type"] == "layers"]
    return [[module.strip() for module in layer.split("|")] for layer in contract["layers"]]


def _summary(module: str, source: Path) -> str:
    """Return the first sentence of the module's docstring, without importing it."""
    path = source / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = " ".join((ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split())
    return re.split(r"(?<=\.)\s", text)[0]
