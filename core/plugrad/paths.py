"""Find the files that a run file names, and open files where somebody may have put something else."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, cast

from plugrad.errors import RunFileError
from plugrad.shown import printable, shown

PART = 2**20
"""Bytes that are read at once for a sum."""


def working_directory() -> Path:
    """Return the working directory.

    Raises:
        RunFileError: it is gone.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise RunFileError(
            f"the working directory cannot be used: {error}. Somebody removed it. Change to a folder that exists."
        ) from error


def expanded(path: str | Path) -> Path:
    """Return a path with `~` replaced by the home folder.

    Raises:
        RunFileError: it is no path, or there is no such home.
    """
    if "\0" in str(path):
        raise RunFileError(f"the path {shown(str(path))} has a NUL character, which no path can have. Take it out.")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise RunFileError(f"the path {shown(str(path))} starts with ~, and there is no such home: write it out.") from error


def absolute(path: str | Path) -> Path:
    """Return the absolute path, with symbolic links followed.

    Raises:
        RunFileError: it is no path, or its links lead in a circle.
    """
    whole = expanded(path)
    if not whole.is_absolute():
        whole = working_directory() / whole
    try:
        return whole.resolve()
    except (OSError, RuntimeError) as error:
        # Before Python 3.13 a circle of links is a RuntimeError.
        raise RunFileError(f"the path {shown(str(path))} cannot be followed: {error}.") from error


def find_file(path: str, folders: Sequence[Path]) -> Path | None:
    """Return the absolute path of `path` in the first of `folders` that has it, or None.

    Raises:
        RunFileError: it is no path, its links lead in a circle, or a folder on the way may not be entered.
    """
    for folder in folders:
        candidate = folder / expanded(path)
        if exists(candidate):
            return absolute(candidate)
    return None


def absolute_folder(name: str, folders: Sequence[Path]) -> str:
    """Return the absolute path of a folder that one of `folders` has; any other name, such as a hub id, as it is.

    Raises:
        RunFileError: as `find_file` does.
    """
    found = find_file(name, folders)
    return str(found) if found and found.is_dir() else name


def exists(path: Path) -> bool:
    """Return whether there is something at a path.

    Raises:
        RunFileError: the system cannot tell: its links lead in a circle, or a folder on the way may not be entered.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            # A hub id or the text of a prompt is no file.
            return False
        raise RunFileError(f"the path {shown(str(path))} cannot be followed: {error}.") from error
    return True


def read_text(path: Path) -> str:
    """Return the text of a regular file.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: it is not UTF-8, or its path has a NUL character.
    """
    return read_bytes(path).decode("utf-8")


def read_bytes(path: Path) -> bytes:
    """Return what a regular file holds.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: its path has a NUL character.
    """
    with open_bytes(path, "rb") as file:
        return file.read()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a regular file.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: its path has a NUL character.
    """
    total = sha256()
    with open_bytes(path, "rb") as file:
        while part := file.read(PART):
            total.update(part)
    return total.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a regular file in UTF-8, a new one or in place of what it held.

    Raises:
        OSError: it cannot be written, or what is there is not a regular file.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Do the same with bytes."""
    with open_bytes(path, "wb") as file:
        file.write(content)


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file so that whoever reads it, now or after a crash, finds the old content or the new one, and whole.

    Raises:
        OSError: it cannot be written. Its message names the file itself, not the one beside that becomes it.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    beside = path.with_name(f".{path.name}.new")
    try:
        with open_bytes(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        with suppress(OSError):
            beside.unlink()
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def open_bytes(path: Path, mode: str, buffering: int = -1) -> BinaryIO:
    """Open a regular file as `open` does with a binary `mode`, a new one if the mode creates it.

    Somebody may have put anything where a file belongs. To open a pipe, or to read one or a device, may never end, and to
    open some devices does something.

    Raises:
        OSError: it cannot be opened, or what is there is not a regular file.
        ValueError: its path has a NUL character.
    """
    return cast(BinaryIO, open(path, mode, buffering, opener=_opened))


def _opened(path: str, flags: int) -> int:
    with suppress(FileNotFoundError):
        _check_regular(path, os.stat(path).st_mode)
    # It may have been replaced since. Windows has no such flag, and no such pipes among its files.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    try:
        _check_regular(path, os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), printable(path))
    if not stat.S_ISREG(mode):
        what = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise OSError(errno.EINVAL, f"this is no regular file but {what}", printable(path))
