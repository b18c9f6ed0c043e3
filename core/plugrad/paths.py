"""Find the files that a run file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def find_file(path: str, folders: Sequence[Path]) -> Path | None:
    """Return the absolute path of `path` in the first of `folders` that has it, or None."""
    candidates = (folder / Path(path).expanduser() for folder in folders)
    return next((candidate.resolve() for candidate in candidates if candidate.exists()), None)
