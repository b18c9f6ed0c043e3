"""The run folder while a run is going: nobody else's, and again the earlier run's if the new one does no step."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from plugrad.errors import RunFileError
from plugrad.folder_lock import FolderLock, FolderTakenError
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.record.replaced_run import forget, put_back
from plugrad.trainer.record.run_folder import OURS, UNFINISHED, cannot_be_written

logger = logging.getLogger("plugrad")


@contextmanager
def held_run_folder(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Hold the run folder while inside, on the main rank.

    If the body fails before the first step is done, a run that it replaces is put back. A folder in which nothing was
    written is removed again.

    Raises:
        RunFileError: another run is going on in the folder, or it cannot be written.
    """
    held = ranks.on_main(lambda: _Held.take(folder))
    if held is None:
        yield
        return
    try:
        yield
        forget(folder)
    except BaseException:
        held.put_back()
        raise
    finally:
        held.let_go()


@dataclass(frozen=True)
class _Held:
    folder: Path
    lock: FolderLock
    made: Sequence[Path]
    """The folders that did not exist, the innermost first."""

    @classmethod
    def take(cls, folder: Path) -> _Held:
        made = [parent for parent in (folder, *folder.parents) if not os.path.lexists(parent)]
        try:
            held = cls(folder, FolderLock.take(folder), made)
        except FolderTakenError as taken:
            raise _taken(folder, taken) from taken
        except (OSError, ValueError) as error:
            _remove_empty(made)
            raise cannot_be_written(folder, error) from error
        if held.lock.is_held:
            # A run that was killed could not do so itself.
            held.put_back(by="the one that replaced it was killed before its first step was done")
            forget(folder)
        else:
            logger.warning("The file system of %s has no locks: start no other run in this folder.", folder)
        return held

    def put_back(self, by: str = "the new one ended before its first step was done") -> None:
        try:
            is_back = put_back(self.folder, (*OURS, UNFINISHED))
        except OSError as error:
            logger.error("The earlier run in %s cannot be put back: %s. The next run tries it again.", self.folder, error)
            return
        if is_back:
            logger.warning("The earlier run in %s is back: %s.", self.folder, by)

    def let_go(self) -> None:
        self.lock.remove()
        _remove_empty(self.made)


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _taken(folder: Path, taken: FolderTakenError) -> RunFileError:
    if taken.is_alive:
        what = f"another run is going on in {folder} (process {taken.process})"
    else:
        what = f"a run in {folder} was killed (process {taken.process}), and a process that it started is still running"
    return RunFileError(f"{what}. Wait for it to end, or choose another folder with --set output_dir=...")
