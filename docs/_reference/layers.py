"""Who imports whom, as a picture drawn from the contract that the import linter checks."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, GAP, LEFT = 720, 46, 12, 36


def picture(pyproject: Path) -> str:
    """Return an SVG with one row a layer: a module may import those in the rows below its own."""
    rows = layers(pyproject)
    height = len(rows) * (HEIGHT + GAP)
    boxes = [box for index, row in enumerate(rows) for box in _row(row, index * (HEIGHT + GAP), pyproject.parent / "core")]
    arrow = f'<path d="M12 0 V{height - GAP - 8} M5 {height - GAP - 15} l7 8 l7 -8" fill="none" stroke="currentColor"/>'
    return "\n".join(
        [
            '<figure class="layers" markdown="0">',
            f'<svg viewBox="-1 -1 {WIDTH + 2} {height}" role="img" aria-label="The layers of plugrad, from top to bottom">',
            arrow,
            *boxes,
            "</svg>",
            "</figure>",
        ]
    )


def layers(pyproject: Path) -> list[list[str]]:
    """Return the modules of each layer, the highest first."""
    contracts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (contract,) = [contract for contract in contracts if contract["type"] == "layers"]
    return [[module.strip() for module in layer.split("|")] for layer in contract["layers"]]


def _row(modules: list[str], y: int, source: Path) -> list[str]:
    width = (WIDTH - LEFT - GAP * (len(modules) - 1)) / len(modules)
    return [
        _box(module, LEFT + index * (width + GAP), y, width, "" if len(modules) > 1 else _summary(module, source))
        for index, module in enumerate(modules)
    ]


def _box(module: str, x: float, y: int, width: float, summary: str) -> str:
    name = module.partition(".")[2]
    middle = y + HEIGHT // 2 + 5
    return (
        f'<rect x="{x:g}" y="{y}" width="{width:g}" height="{HEIGHT}" rx="5" fill="none" stroke="currentColor"/>'
        f'<text x="{x + 14:g}" y="{middle}" fill="currentColor" font-size="15" font-weight="600">{escape(name)}</text>'
        f'<text x="{x + 130:g}" y="{middle}" fill="currentColor" font-size="13" opacity="0.8">{escape(summary)}</text>'
    )


def _summary(module: str, source: Path) -> str:
    """Return the first sentence of the module's docstring, without importing it."""
    path = source / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=\.)\s", text)[0]
