"""Find and read a module's source without importing the module or any of its parents."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import re
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path

from plugrad.paths import read_text

STATEMENT = re.compile(r"^(?=(?:from|import|def|class|async|if|try|@)\b)", flags=re.MULTILINE)
"""A statement that usually follows a module's docstring."""
MOST_BYTES = 16 * 2**20
"""A larger file is not read for one line about it."""


def find_module(name: str) -> ModuleSpec | None:
    """Return where `import name` would find the module, or None. Nothing is imported.

    `importlib.util.find_spec` imports the parents of a dotted name; this looks into their folders instead.
    """
    top, *inner = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except Exception:
        # A finder that another package has installed may raise anything.
        return None
    for depth in range(len(inner)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = find_in_folders(spec.submodule_search_locations, ".".join([top, *inner[: depth + 1]]))
    return spec


def find_in_folders(folders: Iterable[str], name: str) -> ModuleSpec | None:
    """Return where `folders` have the module, with a namespace package as the last resort; or None. Nothing is imported."""
    portions: list[str] = []
    for folder in folders:
        finder = pkgutil.get_importer(folder)
        spec = finder.find_spec(name) if finder else None
        if spec is None:
            continue
        if spec.loader is not None:
            return spec
        portions += spec.submodule_search_locations or []
    if not portions:
        return None
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = portions
    return namespace


def source_of(name: str) -> str | None:
    """Return the source of a module, or None if it cannot be read, as for an extension module."""
    spec = find_module(name)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    try:
        return read_text(path) if path.is_file() and path.stat().st_size <= MOST_BYTES else None
    except (OSError, UnicodeDecodeError):
        return None


def summary_of(target: str, *, is_alone: bool) -> str | None:
    """Return one line about the component `module:attribute`, from the docstrings in the source.

    If the module `is_alone` the component's, its own docstring comes first: it names the paper, while the function's holds
    the formula. Otherwise the line is that of the function or class itself.
    """
    module, _, attribute = target.partition(":")
    source = source_of(module) or ""
    # Parsing whole modules would take a third of the time of a long list.
    if is_alone and (line := _first_line(_parsed(STATEMENT.split(source, maxsplit=1)[0]))):
        return line
    tree = _parsed(source)
    defined = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == attribute)
    own = [line for node in (tree, next(defined, None)) if node and (line := _first_line(node))]
    return (own[0] if is_alone else own[-1]) if own else None


def may_define(source: str, name: str) -> bool:
    """Return whether a module with this source may have an attribute of this name. False is practically certain."""
    return bool(re.search(rf"\b{re.escape(name)}\b|\bimport\s+\*|\b__getattr__\b|\bglobals\s*\(", source))


def _parsed(source: str) -> ast.Module:
    """Return the syntax tree; an empty one if the source has an error, or is nested too deeply for Python's parser."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module(body=[], type_ignores=[])


def _first_line(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> str | None:
    text = ast.get_docstring(node)
    return text.partition("\n")[0].strip() if text else None
