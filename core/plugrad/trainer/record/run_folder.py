"""The run folder: created once, never silently overwritten, readable at any moment."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plugrad.config.reading import as_toml
from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError
from plugrad.json_text import json_of
from plugrad.paths import replace_bytes
from plugrad.rollout.servers.stale_weights import remove_stale_weights
from plugrad.shown import printable
from plugrad.trainer.capture.later_captures import CAPTURES, remove_later_captures
from plugrad.trainer.checkpoints.checkpoint_folder import CHECKPOINTS, prune, remove_later, steps_in
from plugrad.trainer.record.cut_records import keep_first_steps
from plugrad.trainer.record.history import HISTORY
from plugrad.trainer.record.replaced_run import names_in, remove, set_aside

RUN_FILE, PLUGINS, METRICS, MODEL, PROFILES = "run.toml", "plugins.json", "metrics.jsonl", "model", "profiles"
MERGED = "merged"
"""Where `plugrad export --merged` puts whole weights."""
PROFILE_TIMES = "times.json"
"""In the folder of a traced step."""
SAMPLES, TRACKING = "samples.jsonl", "tracking"
OURS = (RUN_FILE, PLUGINS, METRICS, SAMPLES, TRACKING, MODEL, HISTORY, CHECKPOINTS, CAPTURES, PROFILES, MERGED)
UNFINISHED = "model.unfinished"


def check_run_folder(folder: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Check that the run folder can be created. Nothing is written or removed yet.

    Raises:
        RunFileError: it already holds a run and `overwrite` is False, or it cannot be written.
    """
    try:
        present = names_in(folder, OURS)
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    except (OSError, ValueError) as error:
        raise cannot_be_written(folder, error) from error
    if present and PLUGINS not in present and not (resume and steps_in(folder)):
        raise RunFileError(
            f"{folder} holds {', '.join(present)} but no {PLUGINS}: plugrad did not write it and does not "
            "replace it. Choose another folder with --set output_dir=..."
        )
    if present and not (overwrite or resume):
        to_go_on = " Pass --resume to go on from its newest checkpoint, or" if CHECKPOINTS in present else ""
        raise RunFileError(
            f"{folder} already holds a run ({', '.join(present)}).{to_go_on or ' Pass'} --overwrite to replace it; or "
            "choose another folder with --set output_dir=..."
        )
    try:
        # Write a file: permissions do not show a read-only or a full disk.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise cannot_be_written(folder, error) from error


def open_run_folder(run_file: RunFile, plugins: Mapping[str, Any], *, goes_on_after: int = 0, resume: bool = False) -> Path:
    """Create the run folder, set an earlier run aside, and write run file and provenance.

    A run that goes on after some steps keeps what belongs to them; one that was to go on and has to begin, its history.

    Raises:
        RunFileError: it cannot be written, or the records that it goes on from cannot be read.
    """
    folder = Path(run_file.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove(folder / UNFINISHED)
        if goes_on_after:
            keep_first_steps(folder / METRICS, goes_on_after)
            keep_first_steps(folder / SAMPLES, goes_on_after, has_every_step=False)
            remove_later(folder, goes_on_after)
            remove_later_captures(folder, goes_on_after)
            # What a run that was killed had not removed yet: after the last step there is no other occasion.
            table = run_file.checkpoint
            prune(folder, table.keep, table.keep_every_steps, table.keep_best)
        else:
            set_aside(folder, [name for name in OURS if not (resume and name == HISTORY)])
        remove_stale_weights(folder)
        # This one first: by it a folder is known to be a run's, however soon the run is killed.
        replace_bytes(folder / PLUGINS, json_of(plugins).encode())
        replace_bytes(folder / RUN_FILE, as_toml(run_file))
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    return folder


def cannot_be_written(folder: Path, error: Exception) -> RunFileError:
    """Return the error of a folder that cannot be made or written."""
    return RunFileError(
        f"the run folder {printable(folder)} cannot be written: {printable(error)}. Choose another output_dir."
    )
