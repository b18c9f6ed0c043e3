"""Read the files of a distribution's metadata, whatever they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from importlib_metadata import Distribution

MOST_BYTES = 16 * 2**20
"""A larger file is no metadata. The largest that pip installs are lists of files, which nobody reads here."""
READ = ("entry_points.txt", "METADATA", "PKG-INFO", "requires.txt", "direct_url.json")
"""What is read, here or in importlib_metadata."""


def check_files(distribution: Distribution, names: Iterable[str] = READ) -> None:
    """Check that these files of the metadata can be read: a named pipe or a device would block for ever.

    Raises:
        OSError: a file is none that can be read to its end.
    """
    for path in _paths(distribution, names):
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise OSError(f"{path.name} is not a regular file")
        if stat.S_ISREG(found.st_mode) and found.st_size > MOST_BYTES:
            raise OSError(f"{path.name} has {found.st_size:,} bytes")


def read_text(distribution: Distribution, name: str) -> str | None:
    """Return a file of the metadata, or None if there is none.

    Raises:
        OSError: the metadata cannot be read.
    """
    check_files(distribution, [name])
    text: str | None = distribution.read_text(name)
    return text


def _paths(distribution: Distribution, names: Iterable[str]) -> Iterator[Path]:
    folder = getattr(distribution, "_path", None)
    # Within a zip archive there are regular files alone.
    if isinstance(folder, Path):
        yield folder
        yield from (folder / name for name in names)
