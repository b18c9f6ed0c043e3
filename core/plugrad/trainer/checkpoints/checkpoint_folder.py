"""A checkpoint on disk: written beside, synced, and renamed; read only if it is whole."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from plugrad.json_text import json_of, parse_json
from plugrad.paths import read_bytes, sha256_of, write_text
from plugrad.shown import printable

CHECKPOINTS = "checkpoints"
MANIFEST = "checkpoint.json"
FORMAT = 1
"""Raised when a newer plugrad writes what an older one would misread."""
NAME = re.compile(r"step_(\d{6,})")
UNFINISHED = ".unfinished"

logger = logging.getLogger("plugrad")


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: every file that its manifest lists is there with the sum that it lists."""

    folder: Path
    facts: Mapping[str, Any]
    """Its manifest."""

    @property
    def step(self) -> int:
        """How many steps were done."""
        return int(self.facts["step"])

    @property
    def num_ranks(self) -> int:
        """How many ranks wrote it."""
        return int(self.facts["num_ranks"])


def folder_of(run: Path, step: int) -> Path:
    """Return where the checkpoint after `step` steps lies in a run folder."""
    return run / CHECKPOINTS / f"step_{step:06d}"


def unfinished_of(folder: Path) -> Path:
    """Return the folder in which a checkpoint is written before it has its name."""
    return folder.with_name(f".{folder.name}{UNFINISHED}")


def begin(unfinished: Path) -> None:
    """Make that folder, empty.

    Raises:
        OSError: it cannot be made, or the run folder is gone: without the rest of the run, it is not made again.
    """
    _remove(unfinished)
    unfinished.parent.mkdir(exist_ok=True)
    unfinished.mkdir()


def sums_of(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of files by their place in `folder`."""
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}


def check_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Check that files in `folder` have the bytes that were written: a number that has flipped would be read as any other.

    Args:
        folder: where the files lie.
        sums: by the file's place in it, as `sums_of` returned them.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is missing or has other bytes.
    """
    missing = [name for name in sums if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    with ThreadPoolExecutor() as threads:
        found = threads.map(lambda name: sha256_of(folder / name), sums)
        wrong = [name for name, total in zip(sums, found, strict=True) if total != sums[name]]
    if wrong:
        raise ValueError(f"{wrong[0]} has changed since it was written, or was cut off: its sum does not match")


def publish(unfinished: Path, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest and give the checkpoint its name: from now on it counts.

    Raises:
        OSError: the disk is full or is gone.
    """
    write_text(unfinished / MANIFEST, json_of({"format": FORMAT, **facts}))
    for path in (unfinished / MANIFEST, *(each for each in unfinished.rglob("*") if each.is_dir()), unfinished):
        sync(path)
    # A run that was resumed further back reaches the step a second time.
    _retire(folder)
    unfinished.rename(folder)
    sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until a file or folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # Some file systems know no such thing for folders.
        with suppress(OSError) if path.is_dir() else nullcontext():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def steps_in(run: Path) -> list[int]:
    """Return the steps of the checkpoints in a run folder, whole or not, the newest first."""
    with suppress(OSError):
        found = (NAME.fullmatch(path.name) for path in (run / CHECKPOINTS).iterdir())
        return sorted((int(match[1]) for match in found if match), reverse=True)
    return []


def newest_whole(run: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint of a run, or None. Those that are not whole are passed over with a warning."""
    for step in steps_in(run):
        folder = folder_of(run, step)
        try:
            return _whole(folder)
        except (OSError, ValueError) as error:
            logger.warning("The checkpoint %s is passed over: %s.", printable(folder), printable(error))
    return None


def prune(run: Path, keep: int, keep_every_steps: int, keep_best: str | None = None) -> None:
    """Remove all but the newest `keep` checkpoints, those of every `keep_every_steps` steps, and the best by a number."""
    best = best_in(run, keep_best)
    for step in steps_in(run)[keep:]:
        if not (keep_every_steps and step % keep_every_steps == 0) and step != (best and best.step):
            _retire(folder_of(run, step))


class Best(NamedTuple):
    """The checkpoint whose number is greatest, the first of those that are equal."""

    value: float
    step: int


def best_in(run: Path, name: str | None, last: int | None = None) -> Best | None:
    """Return the best checkpoint of a run up to the step `last`, by the number that was recorded at its step."""
    found = []
    for step in steps_in(run) if name is not None else ():
        with suppress(OSError, ValueError):
            facts = parse_json(read_bytes(folder_of(run, step) / MANIFEST))
            value = (facts.get("best") or {}).get(name) if isinstance(facts, dict) else None
            if isinstance(value, int | float) and (last is None or step <= last):
                found.append(Best(float(value), step))
    return max(found, key=lambda best: (best.value, -best.step), default=None)


def remove_later(run: Path, step: int) -> None:
    """Remove what a run that goes on from `step` will write again."""
    for later in steps_in(run):
        if later > step:
            _retire(folder_of(run, later))


def remove_unfinished(run: Path) -> None:
    """Remove what a run that was killed had half written or half removed: a checkpoint may be as large as the disk."""
    with suppress(OSError):
        for path in (run / CHECKPOINTS).glob(f".*{UNFINISHED}"):
            _remove(path)


def _retire(folder: Path) -> None:
    """Remove a checkpoint, as far as that can be done."""
    # First the name: a removal that is interrupted leaves no checkpoint that looks whole.
    with suppress(OSError):
        _remove(folder.rename(unfinished_of(folder.with_name(f"{folder.name}.old"))))


def _remove(path: Path) -> None:
    """Remove a folder, as far as that can be done. Of a symbolic link, only the link: what it leads to is somebody's."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _whole(folder: Path) -> Checkpoint:
    """Return a checkpoint.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is missing or has other bytes.
    """
    if not (folder / MANIFEST).exists():
        raise ValueError(f"it has no {MANIFEST}: it is empty, or only a part of it is there")
    facts = parse_json(read_bytes(folder / MANIFEST), MANIFEST)
    if not isinstance(facts, dict) or not isinstance(facts.get("sums"), dict):
        raise ValueError(f"its {MANIFEST} is not that of a checkpoint")
    if facts.get("format") != FORMAT:
        raise ValueError(f"it has format {json.dumps(facts.get('format'))}, and this plugrad reads format {FORMAT}")
    check_sums(folder, facts["sums"])
    return Checkpoint(folder, facts)
