"""Save the model of a run, with copies of `run.toml` and `plugins.json`; elsewhere if the run folder takes it no more."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from plugrad.errors import TrainingError
from plugrad.shown import printable
from plugrad.trainer.record.replaced_run import remove
from plugrad.trainer.record.run_folder import MODEL, PLUGINS, RUN_FILE, UNFINISHED

logger = logging.getLogger("plugrad")


class SavedElsewhereError(TrainingError):
    """The run folder does not take the model, and another folder has it: the message says which, and what to do."""


def save_model(folder: Path, save: Callable[[Path], object]) -> Path:
    """Let `save` write the model. It appears under its name once it is whole, with run file and provenance inside.

    Raises:
        SavedElsewhereError: it cannot be written there, and is in another place.
        TrainingError: it can be written nowhere.
    """
    unfinished, finished = folder / UNFINISHED, folder / MODEL
    try:
        remove(unfinished)
        save(unfinished)
        _copy_provenance(folder, unfinished)
        if finished.is_symlink():
            logger.warning("%s was a symbolic link: the model takes its place, and what it led to is unchanged.", finished)
        remove(finished)
        unfinished.rename(finished)
    # Safetensors raises an exception of its own where the disk is full.
    except Exception as error:
        with suppress(OSError):
            remove(unfinished)
        failed = f"the model cannot be saved in {folder}: {type(error).__name__}: {printable(error)}."
        elsewhere = _save_elsewhere(folder, save)
        if elsewhere:
            raise SavedElsewhereError(
                f"{failed} It is in {elsewhere} instead, whole. Make room, then move it: mv {elsewhere} {finished}"
            ) from error
        raise TrainingError(
            f"{failed} Nor can it be saved in {', '.join(map(str, _other_places(folder)))}. Make room, or choose another "
            "output_dir. The metrics of every step are kept."
        ) from error
    return finished


def _save_elsewhere(folder: Path, save: Callable[[Path], object]) -> Path | None:
    """Save the model in the first other place that takes it, in a folder with a new name; return that folder."""
    for place in _other_places(folder):
        made: Path | None = None
        try:
            made = Path(tempfile.mkdtemp(prefix=f"{folder.name}-{MODEL}-", dir=place))
            save(made)
            _copy_provenance(folder, made)
        except Exception:
            if made:
                shutil.rmtree(made, ignore_errors=True)
        else:
            return made
    return None


def _other_places(folder: Path) -> list[Path]:
    """Return where else a model may be saved: beside the run folder, here, and where temporary files go."""

    def places() -> Iterator[Path]:
        yield folder.parent
        for place in (Path.cwd, tempfile.gettempdir):
            # Somebody removed it, or no folder for temporary files can be written.
            with suppress(OSError):
                yield Path(place())

    return list(dict.fromkeys(places()))


def _copy_provenance(folder: Path, model: Path) -> None:
    for name in (RUN_FILE, PLUGINS):
        # Somebody may have deleted it during the run: the model is saved all the same.
        with suppress(FileNotFoundError, NotADirectoryError):
            shutil.copyfile(folder / name, model / name)
