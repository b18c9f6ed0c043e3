"""The lock of a folder in which one command works at a time. The system lets it go however the command ends."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from plugrad.paths import open_bytes
from plugrad.shown import printable

LOCK = ".lock"
LONGEST_HOLDER = 300
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""What a file system answers that knows no locks."""


class FolderTakenError(Exception):
    """Another command works in the folder, or processes that it left."""

    def __init__(self, process: str, *, is_alive: bool) -> None:
        super().__init__(f"the folder is locked by process {process}")
        self.process = process
        """The number of the process that took the lock, as far as it is known."""
        self.is_alive = is_alive
        """Whether that process lives. Otherwise one that it started has outlived it, and holds the lock."""


@dataclass(frozen=True)
class FolderLock:
    """A lock that this process has taken. A process that it forks holds it too."""

    file: BinaryIO
    is_held: bool
    """False where the file system, or the operating system, knows no such locks."""

    @classmethod
    def take(cls, folder: Path) -> FolderLock:
        """Make the folder if need be, and lock it.

        Raises:
            FolderTakenError: another process holds the lock.
            OSError: the folder cannot be written.
        """
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            # Whoever lets a lock go may remove the file, or the folder if it is empty.
            with suppress(FileNotFoundError):
                lock = cls._of(open_bytes(folder / LOCK, "a+b"))
                if not lock.is_held or os.path.samestat(os.stat(folder / LOCK), os.fstat(lock.file.fileno())):
                    return lock
                lock.file.close()

    @classmethod
    def _of(cls, file: BinaryIO) -> FolderLock:
        try:
            is_held = _lock(file.fileno())
        except BaseException:
            file.close()
            raise
        if is_held:
            os.ftruncate(file.fileno(), 0)
            os.pwrite(file.fileno(), f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        return cls(file, is_held)

    @property
    def descriptor(self) -> int | None:
        """The file descriptor for processes that shall hold the lock too; None where there is no lock."""
        return self.file.fileno() if self.is_held else None

    def let_go(self) -> None:
        """Let the lock go. A process that holds it too keeps it."""
        self.file.close()

    def remove(self) -> None:
        """Let the lock go, and remove its file."""
        with suppress(OSError):
            os.unlink(self.file.name)
        self.file.close()


def _lock(descriptor: int) -> bool:
    """Lock a file; return False where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        process, _, host = os.pread(descriptor, LONGEST_HOLDER, 0).decode(errors="replace").strip().partition(" ")
        is_elsewhere = host not in ("", socket.gethostname())
        shown = printable(f"{process or 'unknown'}{f' on {host}' if is_elsewhere else ''}")
        raise FolderTakenError(shown, is_alive=is_elsewhere or _is_alive(process)) from error
    return True


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):
        return True
    return True
