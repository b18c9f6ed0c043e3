"""Find the files that a run file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class SearchFolder(str):
    """A folder that plugrad added to `sys.path` to find a user's modules. Distributions in it are not trusted."""

    __slots__ = ()


def find_file(path: str, folders: Sequence[Path]) -> Path | None:
    """Return the absolute path of `path` in the first of `folders` that has it, or None."""
    candidates = (folder / Path(path).expanduser() for folder in folders)
    return next((candidate.resolve() for candidate in candidates if candidate.exists()), None)
