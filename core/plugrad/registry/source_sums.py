"""The sums of source files: each may be edited without a new version of anything."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from plugrad.paths import sha256_of
from plugrad.registry.bind import Component
from plugrad.registry.local_modules import OF_FILES

MOST_BYTES = 256 * 2**20
"""To read a larger file takes longer than is worth it."""


def file_of(target: Any) -> str | None:
    """Return the file that defines a function, a class or a module; None if there is none, as for compiled code."""
    try:
        return inspect.getsourcefile(target)
    except TypeError:
        return None


def sum_of(file: str | None) -> str | None:
    """Return the SHA-256 of a source file: one of two machines with the same version may have edited it."""
    try:
        return sha256_of(Path(file)) if file else None
    except OSError:
        return None


def sums_of_files(options: Any) -> dict[str, str]:
    """Return the SHA-256 of the files that options name by their absolute paths, by these. Those that are large have none.

    By its sum a file is known that lies elsewhere later.
    """
    found = {}
    for file, _ in map(named_file, _texts(options)):
        with suppress(OSError, ValueError):
            if file is not None and file.is_file() and file.stat().st_size <= MOST_BYTES:
                found[str(file)] = sha256_of(file)
    return found


def named_file(text: str) -> tuple[Path | None, str]:
    """Return the absolute path that a text is, and `:function` behind it if it refers to one; None if it is no such path."""
    location, colon, attribute = text.rpartition(":")
    path, rest = (location, colon + attribute) if location.endswith(".py") else (text, "")
    return (Path(path), rest) if os.path.isabs(path) and "\0" not in path else (None, "")


def sums_of_modules(components: Collection[Component], editable: Collection[str]) -> dict[str, str]:
    """Return the SHA-256 of every imported module that users of a run edit, by its name; of a file, by the file's name.

    These are the modules in the folders of the run and beside its own files, and those of `editable`, the top-level packages
    of components that are installed so. The files of the components are not among them: each has its own sum.
    """
    own = {file_of(component.code or component.target) for component in components}
    folders = set(_folders_of(components))
    found: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        # Some modules import something when they are asked for what they lack.
        file = getattr(module, "__dict__", {}).get("__file__")
        if not isinstance(file, str) or file in own or name == "__main__":
            continue
        if name.partition(".")[0] in editable or _folder_of(name, file) in folders:
            total = sum_of(file)
            if total is not None:
                found[_without_a_double(Path(file).name if name.startswith(OF_FILES) else name, found)] = total
    return dict(sorted(found.items()))


def _folders_of(components: Iterable[Component]) -> Iterator[Path]:
    """Yield where the run looks for files and modules, and the folders of the files that components and options name."""
    for component in components:
        yield from component.folders
        for text in (component.source.target, *_texts(component.options)):
            file, rest = named_file(text)
            if file is not None and rest:
                yield file.parent


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _folder_of(name: str, file: str) -> Path:
    """Return the folder in which the top-level module or package of a module lies."""
    path = Path(file)
    depth = name.count(".") + (path.stem == "__init__")
    return path.parents[min(depth, len(path.parents) - 1)]


def _without_a_double(name: str, known: Collection[str]) -> str:
    number = 2
    while name in known:
        name, number = f"{name.partition(' ')[0]} ({number})", number + 1
    return name
