"""The folder of a comparison: lock it, find its earlier runs, and check that they belong to the same comparison."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plugrad.compare.arms import Arm
from plugrad.compare.changes import changed_keys, changed_plugins, changed_since_checkpoint
from plugrad.compare.checking import CheckedArm
from plugrad.compare.planned_run import PlannedRun
from plugrad.config.reading import write_run_file
from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError
from plugrad.folder_lock import LOCK, FolderLock, FolderTakenError
from plugrad.json_text import parse_json
from plugrad.paths import read_bytes
from plugrad.shown import printable
from plugrad.trainer.record.run_folder import RUN_FILE

logger = logging.getLogger("plugrad")

COMPARISON = "comparison.json"
ARM_FOLDER = re.compile(r"[\w=+-][\w.=+-]*")
LISTED_DIFFERENCES = 3
"""Differences of an arm that a message lists; the others are counted."""


@dataclass(frozen=True)
class ComparisonFolder:
    """The folder that holds the runs of a comparison: `ARM/seed-N`, each an ordinary run folder."""

    path: Path

    def run_file(self, arm: Arm) -> Path:
        """Return the path of an arm's run file."""
        return self.path / arm.folder / RUN_FILE

    def runs(self, arms: Sequence[Arm], checked: Mapping[str, CheckedArm], seeds: Sequence[int]) -> list[PlannedRun]:
        """Return all runs in order: every arm at the first seed, then every arm at the second, and so on."""
        return [
            PlannedRun(
                arm.name,
                seed,
                self.path / arm.folder / f"seed-{seed}",
                self.run_file(arm),
                checked[arm.name].run_file.max_steps,
            )
            for seed in seeds
            for arm in arms
        ]

    @contextmanager
    def locked(self) -> Iterator[int | None]:
        """Create and lock the folder. Yields the lock's file descriptor, which each run holds too in case it outlives us.

        Raises:
            RunFileError: the folder cannot be written, or another comparison or its leftover run is working in it.
        """
        try:
            lock = FolderLock.take(self.path)
        except FolderTakenError as taken:
            raise self._taken(taken) from taken
        except OSError as error:
            raise self.not_writable(error) from error
        if not lock.is_held:
            logger.warning("The file system of %s has no locks: start no other comparison in this folder.", self.path)
        try:
            yield lock.descriptor
        finally:
            lock.let_go()

    def not_writable(self, error: OSError) -> RunFileError:
        """Return the error of a folder that cannot be made, read or written."""
        return RunFileError(
            f"the folder of the comparison, {printable(self.path)}, cannot be used: {printable(error)}. Move what is in the "
            "way, or choose another --output-dir."
        )

    def _taken(self, taken: FolderTakenError) -> RunFileError:
        what = f"another comparison is running in {self.path} (process {taken.process})"
        if not taken.is_alive:
            what = f"a comparison in {self.path} was killed, and the run that it started is still running"
        return RunFileError(f"{what}. Wait for it to end, or choose another --output-dir.")

    def earlier_arms(self) -> dict[str, str]:
        """Return the arms of the comparison in this folder and their folders; an empty dict if there is none.

        Raises:
            RunFileError: the folder holds something else.
        """
        present = sorted(entry.name for entry in self.path.iterdir() if entry.name != LOCK) if self.path.exists() else []
        if not present:
            return {}
        try:
            arms = parse_json(read_bytes(self.path / COMPARISON))["arms"]
            folders = {str(name): str(arm["folder"]) for name, arm in arms.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise RunFileError(
                f"{self.path} holds {', '.join(present[:5])} but no {COMPARISON}, so it is not a comparison. Nothing there "
                "was changed. Choose another --output-dir."
            ) from error
        return {name: folder for name, folder in folders.items() if ARM_FOLDER.fullmatch(folder)}

    def remove(self, arms: Mapping[str, str]) -> None:
        """Remove the folders of these arms with everything in them."""
        for folder in arms.values():
            shutil.rmtree(self.path / folder, ignore_errors=True)

    def check_unchanged(self, arms: Sequence[Arm], checked: Mapping[str, CheckedArm], runs: Sequence[PlannedRun]) -> None:
        """Check that the folder holds the same comparison. Arms and seeds may be added, and runs may become longer that
        have a checkpoint of their end, but nothing else may change.

        Raises:
            RunFileError: names what differs.
        """
        earlier = self.earlier_arms()
        if earlier and not any(arm.name in earlier for arm in arms):
            raise self._another(f"its arms are {', '.join(earlier)}, and this command names none of them.")
        for arm in arms:
            if arm.name in earlier:
                self._check_arm(arm, checked[arm.name], [run for run in runs if run.arm == arm.name])

    def write_run_files(self, arms: Sequence[Arm], checked: Mapping[str, CheckedArm]) -> None:
        """Write each arm's run file. Its runs are started from that file, and can be repeated from it."""
        for arm in arms:
            path = self.run_file(arm)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_run_file(checked[arm.name].run_file, path)

    def _check_arm(self, arm: Arm, checked: CheckedArm, runs: Sequence[PlannedRun]) -> None:
        kept = [run for run in runs if run.is_kept]
        if not kept:
            return
        found, why = changed_keys(RunFile.load(self.run_file(arm)), checked.run_file, kept)
        found = found or _first(changed_plugins(run, checked.plugins) for run in kept)
        found = found or _first(changed_since_checkpoint(run, checked.plugins) for run in kept if not run.is_finished)
        if found:
            more = f" and {len(found) - LISTED_DIFFERENCES} more" if len(found) > LISTED_DIFFERENCES else ""
            raise self._another(
                f"since the arm {arm.name!r} was run, {', '.join(found[:LISTED_DIFFERENCES])}{more}.{why and f' {why}.'}",
                f"--rerun {arm.folder} to run this arm again, ",
            )

    def _another(self, difference: str, rerun: str = "") -> RunFileError:
        return RunFileError(
            f"{self.path} holds another comparison: {difference} Use {rerun}--overwrite to run everything again, or "
            "another --output-dir."
        )


def _first(found: Iterable[list[str]]) -> list[str]:
    """Return the first list that is not empty."""
    return next(filter(None, found), [])
