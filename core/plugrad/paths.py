"""Find the files that a run file names."""

from __future__ import annotations

import errno
import stat
from collections.abc import Sequence
from pathlib import Path

from plugrad.errors import RunFileError
from plugrad.shown import printable, shown


class SearchFolder(str):
    """A folder that plugrad added to `sys.path` to find a user's modules. Distributions in it are not trusted."""

    __slots__ = ()


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
    """Return the text of a regular file. To read a pipe or a device may never end.

    Raises:
        OSError: it cannot be read, or is neither a file nor a folder.
        ValueError: it is not UTF-8, or its path has a NUL character.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "this is no regular file", printable(path))
    return path.read_text(encoding="utf-8")
