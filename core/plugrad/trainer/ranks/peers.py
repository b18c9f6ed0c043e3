"""The other ranks on this machine: whether one has ended without a word, and whose call it was in."""

from __future__ import annotations

import math
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from plugrad.errors import PlugradError
from plugrad.launcher_watch import LAUNCH_FOLDER
from plugrad.trainer.ranks.failure import Failure
from plugrad.trainer.ranks.rank_file import LastSign, OwnFile, PeerFile
from plugrad.trainer.ranks.ranks import Ranks

LOOK_EVERY_S, LOOK_FOR_S = 0.05, 2.0
"""The system closes the connections of a process that ended a moment before it frees the lock of its file, or after."""
SILENT_S = 30.0
SILENT = (
    "{} has given no sign of life for {:.0f} s. It was stopped (kill -CONT goes on with it), or the machine has neither "
    "time nor memory for it. Ctrl-C twice ends the run, and with --num-processes that rank too."
)
REASONS = (
    "A plugin cannot end a run: where it calls os._exit or the like, as compiled code may, too, let it raise an ordinary "
    "exception. If none does, the system killed the rank, most often because memory ran out, or compiled code crashed."
)


@dataclass(frozen=True)
class Peers:
    """The files of this rank and of the others on this machine."""

    own: OwnFile | None = None
    others: Sequence[PeerFile] = ()
    count: int = 1
    index: int = 0
    beats: dict[int, tuple[int, float]] = field(default_factory=dict)
    """By rank, how often it had given a sign of life, and when that was first seen; never, once its silence is told."""
    has_begun: threading.Event = field(default_factory=threading.Event)
    noticed: threading.Event = field(default_factory=threading.Event)
    """Set once this rank knows that the run fails, and does what is left to do, such as to save the model."""

    @classmethod
    def meet(cls, ranks: Ranks) -> Peers:
        """Make this rank's file and open the others'. Every rank calls this.

        Without a folder that can be written, there are none: a run does not depend on them.
        """
        here, given, made = socket.gethostname(), os.environ.get(LAUNCH_FOLDER), None
        if not given and os.environ.get("LOCAL_RANK", "0") == "0":
            with suppress(OSError):
                made = tempfile.mkdtemp(prefix="plugrad-peers-")
        folders = [folder for host, folder in ranks.gather((here, given or made)) if host == here and folder]
        own = None
        if folders:
            with suppress(OSError):
                own = OwnFile(Path(folders[0]), ranks.index)
        others = []
        for rank, (host, has_file) in enumerate(ranks.gather((here, own is not None))):
            if folders and has_file and host == here and rank != ranks.index:
                # Another container may have the same name.
                with suppress(OSError):
                    others.append(PeerFile.of(Path(folders[0]), rank))
        ranks.wait()
        if made:
            # Whoever has opened the files keeps them, and nothing is left behind however the run ends.
            shutil.rmtree(made, ignore_errors=True)
        return cls(own, others, ranks.count, ranks.index)

    @property
    def exit_code(self) -> int:
        """The exit code of a run that fails now: 2 before training has begun, 1 after."""
        return 1 if self.has_begun.is_set() else PlugradError.exit_code

    def begin(self) -> None:
        """Note that training has begun."""
        self.has_begun.set()
        if self.own:
            self.own.begin()

    def leave(self) -> None:
        """Note that this rank leaves the run in good order, and look at the others no more."""
        if self.own:
            self.own.leave()
        for peer in self.others:
            peer.file.close()

    def has_ended(self) -> bool:
        """Return whether a rank on this machine has ended, with or without a word."""
        return any(not peer.is_held() for peer in self.others)

    def lost(self) -> Failure | None:
        """Return the failure of a rank on this machine that has ended without a word; None if there is none."""
        for peer in self.others:
            sign = peer.last_sign_if_lost()
            if sign:
                return self._failure(peer.rank, sign)
        return None

    def silent(self) -> str | None:
        """Give a sign of life; return what to say of the ranks here that have given none for a time, once for each.

        Only the first rank that does answer has something to say.
        """
        if self.own:
            self.own.beat()
        said = []
        for peer in self.others:
            sign = peer.last_sign()
            if sign is None or sign.has_left:
                continue
            num_beats, since = self.beats.get(peer.rank, (-1, 0.0))
            if sign.num_beats != num_beats:
                self.beats[peer.rank] = sign.num_beats, time.monotonic()
            elif time.monotonic() - since >= SILENT_S:
                # Told: it stays so until the next sign.
                self.beats[peer.rank] = num_beats, math.inf
                said.append(f"rank {peer.rank} of {self.count} (process {sign.process}){sign.where}")
        silent = {rank for rank, (_, since) in self.beats.items() if since == math.inf}
        is_first = all(peer.rank in silent or peer.rank > self.index for peer in self.others)
        return SILENT.format(" and ".join(said), SILENT_S) if said and is_first else None

    def lost_soon(self) -> Failure | None:
        """Return the same, where a connection has just been lost."""
        until = time.monotonic() + LOOK_FOR_S
        while self.others and time.monotonic() < until:
            found = self.lost()
            if found:
                return found
            time.sleep(LOOK_EVERY_S)
        return None

    def _failure(self, rank: int, sign: LastSign) -> Failure:
        message = f"rank {rank} of {self.count} (process {sign.process}) has ended{sign.where} without an error. {REASONS}"
        return Failure(rank, message, self.exit_code)
