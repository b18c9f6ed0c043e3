"""Where a path that a run file names is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class SearchFolder(str):
    """An entry of `sys.path` that plugrad put there to find a user's modules: distributions in it are not trusted."""

    __slots__ = ()


def find_file(path: str, folders: Sequence[Path]) -> Path | None:
    """Return the absolute path of the first of `folders` that holds `path`, or None."""
    candidates = (folder / Path(path).expanduser() for folder in folders)
    return next((candidate.resolve() for candidate in candidates if candidate.exists()), None)
