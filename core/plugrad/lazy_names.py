"""Public names that are imported on first use. They are listed once, in the `.pyi` stub beside the package's `__init__.py`.

This is what `lazy_loader.attach_stub` does, with one difference: an AttributeError raised while a name is imported stays
visible. Python would report it as "cannot import name".
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def homes_of(package_file: str) -> dict[str, str]:
    """Return the module of each public name, as the stub of the package lists them."""
    stub = ast.parse(Path(package_file).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [statement for statement in stub.body if isinstance(statement, ast.ImportFrom)]
    return {alias.name: statement.module or "" for statement in imports for alias in statement.names}


def attach(package: str, package_file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the `__getattr__`, `__dir__` and `__all__` of a package whose stub lists its names.

    The returned `__getattr__` raises ImportError if importing a listed name raises AttributeError.
    """
    homes = homes_of(package_file)

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            value = getattr(import_module(homes[name]), name)
        except AttributeError as error:
            raise ImportError(f"importing {package}.{name} raised AttributeError: {error}") from error
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted([*vars(sys.modules[package]), *homes])

    return get, names, list(homes)
