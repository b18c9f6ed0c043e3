"""A small file per rank that tells the others, and the launcher, how far it had come when it ended without a word."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from plugrad.paths import open_bytes

HEADER = struct.Struct("=q??Q")
"""The process, whether training had begun, whether the rank has left the run in good order, with or without an error, and
how often it has given a sign of life."""
SLOT = struct.Struct("=H510s")
"""A thread's call in progress: the length of its owner's name, in bytes, and the name."""
NUM_SLOTS = 8
SIZE = HEADER.size + NUM_SLOTS * SLOT.size


@dataclass(frozen=True)
class LastSign:
    """What a rank's file says."""

    process: int
    has_begun: bool
    """Whether training had begun."""
    has_left: bool
    """Whether the rank had nothing more to do with the others. If it failed, its error has been told."""
    calls: tuple[str, ...]
    """Whose calls were in progress, the innermost of each thread."""
    num_beats: int = 0
    """How often it has given a sign of life."""

    @property
    def where(self) -> str:
        """For a message: whose calls were in progress, such as "in a call of the loss 'x'", after a space, or nothing."""
        return f" in a call of {' or '.join(self.calls)}" if self.calls else ""


def file_of(folder: Path, rank: int) -> Path:
    """Return where a rank keeps its file."""
    return folder / f"rank_{rank}"


def last_sign(folder: Path, rank: int) -> LastSign | None:
    """Read the file of a rank; None if the rank had not got so far as to make it."""
    try:
        with open_bytes(file_of(folder, rank), "rb") as file:
            return _decoded(file.read())
    except OSError:
        return None


def _decoded(content: bytes) -> LastSign | None:
    if len(content) != SIZE:
        return None
    owners = [name[:length] for length, name in SLOT.iter_unpack(content[HEADER.size :]) if length]
    # A long name may be cut within a character.
    calls = tuple(dict.fromkeys(owner.decode(errors="ignore") for owner in owners))
    process, has_begun, has_left, num_beats = HEADER.unpack_from(content)
    return LastSign(process, has_begun, has_left, calls, num_beats)


class OwnFile:
    """The file of this process's rank. The kernel keeps what is written here, however the process ends.

    While the process lives it holds a lock on the file, of the kind that a forked process does not inherit.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        """Make the file.

        Raises:
            OSError: the folder cannot be written.
        """
        self._file = open_bytes(file_of(folder, rank), "w+b")
        # Written out, since the memory of a file that has no room on the disk ends a process that writes to it.
        self._file.write(bytes(SIZE))
        self._file.flush()
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._memory = mmap.mmap(self._file.fileno(), SIZE)
        self._slots: dict[int, int] = {}
        self._lock = threading.Lock()
        self._has_begun = self._has_left = False
        self._num_beats = 0
        self._write_header()

    def begin(self) -> None:
        """Note that training has begun."""
        self._has_begun = True
        self._write_header()

    def beat(self) -> None:
        """Give a sign of life."""
        self._num_beats += 1
        self._write_header()

    def leave(self) -> None:
        """Note that this rank leaves the run in good order, and let its lock go."""
        self._has_left = True
        self._write_header()
        self._file.close()

    def note(self, thread: int, owner: str) -> None:
        """Note whose call a thread is in, or "" if it is in none. Of more than `NUM_SLOTS` threads some are left out."""
        name = owner.encode(errors="replace")[: SLOT.size - 2]
        with self._lock:
            slot = self._slots.get(thread)
            if slot is None:
                slot = next((free for free in range(NUM_SLOTS) if free not in self._slots.values()), None)
                if slot is None:
                    return
                self._slots[thread] = slot
            if not name:
                del self._slots[thread]
            SLOT.pack_into(self._memory, HEADER.size + slot * SLOT.size, len(name), name)

    def _write_header(self) -> None:
        HEADER.pack_into(self._memory, 0, os.getpid(), self._has_begun, self._has_left, self._num_beats)


@dataclass(frozen=True)
class PeerFile:
    """The file of another rank on this machine, which may already be deleted."""

    rank: int
    file: BinaryIO

    @classmethod
    def of(cls, folder: Path, rank: int) -> PeerFile:
        """Open the file.

        Raises:
            OSError: there is none.
        """
        return cls(rank, open_bytes(file_of(folder, rank), "r+b"))

    def is_held(self) -> bool:
        """Return whether its process lives and is in the run."""
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        with suppress(OSError):
            fcntl.lockf(self.file, fcntl.LOCK_UN)
        return False

    def last_sign(self) -> LastSign | None:
        """Return what it says now."""
        return _decoded(os.pread(self.file.fileno(), SIZE, 0))

    def last_sign_if_lost(self) -> LastSign | None:
        """Return what it says if its process has ended without leaving the run in good order, otherwise None."""
        if self.is_held():
            return None
        sign = self.last_sign()
        return sign if sign and not sign.has_left else None
