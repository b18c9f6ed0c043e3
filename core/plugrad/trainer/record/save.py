"""Save the model of a run, with copies of `run.toml` and `plugins.json`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from plugrad.errors import TrainingError
from plugrad.shown import printable
from plugrad.trainer.record.replaced_run import remove
from plugrad.trainer.record.run_folder import MODEL, PLUGINS, RUN_FILE, UNFINISHED


def save_model(folder: Path, save: Callable[[Path], object]) -> Path:
    """Let `save` write the model. It appears under its name once it is whole, with run file and provenance inside.

    Raises:
        TrainingError: the model cannot be written.
    """
    unfinished, finished = folder / UNFINISHED, folder / MODEL
    try:
        remove(unfinished)
        save(unfinished)
        _copy_provenance(folder, unfinished)
        remove(finished)
        unfinished.rename(finished)
    # Safetensors raises an exception of its own where the disk is full.
    except Exception as error:
        with suppress(OSError):
            remove(unfinished)
        raise TrainingError(
            f"the model cannot be saved in {folder}: {type(error).__name__}: {printable(error)}. Make room, or choose "
            "another output_dir. The metrics of every step are kept."
        ) from error
    return finished


def _copy_provenance(folder: Path, model: Path) -> None:
    for name in (RUN_FILE, PLUGINS):
        # Somebody may have deleted it during the run: the model is saved all the same.
        with suppress(FileNotFoundError):
            shutil.copyfile(folder / name, model / name)
