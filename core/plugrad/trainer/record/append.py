"""Append to a file of records whole lines alone, whatever the disk does."""

from __future__ import annotations

from pathlib import Path

from plugrad.paths import open_bytes


def append(path: Path, lines: bytes) -> int:
    """Append lines, or nothing; return the length of the file.

    Raises:
        OSError: the file cannot be written. It is then as it was.
    """
    with open_bytes(path, "ab", buffering=0) as file:
        length = file.tell()
        try:
            while lines:
                lines = lines[file.write(lines) :]
        except OSError:
            file.truncate(length)
            raise
        return file.tell()
