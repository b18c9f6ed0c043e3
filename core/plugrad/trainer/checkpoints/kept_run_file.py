"""The run file of a run folder in which a run is to go on, wherever the folder and its project are now."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plugrad.config.override import Override
from plugrad.config.reading import read_tables
from plugrad.config.run_file import RunFile, as_run_file
from plugrad.errors import ResumeError, RunFileError, counted
from plugrad.paths import absolute, exists
from plugrad.registry.source_sums import named_file
from plugrad.shown import printable
from plugrad.trainer.checkpoints.checkpoint_folder import CHECKPOINTS, MANIFEST, NAME, folder_of, steps_in
from plugrad.trainer.record.plugins_file import read_plugins
from plugrad.trainer.record.run_folder import PLUGINS, RUN_FILE

SHOWN = 5
MODELS = ("model", "critic")
"""Tables whose names may be folders."""

logger = logging.getLogger("plugrad")


def kept_run_file(folder: Path, overrides: Sequence[str]) -> RunFile:
    """Return the run file that a run folder holds, or else its newest checkpoint, with `overrides` and this `output_dir`.

    Files that are no longer where the run file says are looked up where the project is now, if it was moved with the run
    folder, and in `search_paths` if the overrides set these.

    Raises:
        RunFileError: the folder holds no run, an override is wrong, or another `output_dir` is asked for.
        ResumeError: files that the run needs are nowhere.
    """
    folder = absolute(folder)
    if any(override.partition("=")[0].strip() == "output_dir" for override in overrides):
        raise RunFileError(
            f"--resume {folder} goes on in that folder, and --set output_dir=... names another one. Copy the folder to "
            "where the run is to go on, and give the copy."
        )
    path = _run_file_in(folder)
    tables = read_tables(path)
    then = tables.get("search_paths"), tables.get("output_dir")
    for override in overrides:
        Override(override).apply(tables)
    moved = Moved.of(then, folder, tables.get("search_paths"))
    tables = {**moved.found_again({**tables, "output_dir": ""}), "output_dir": str(folder)}
    moved.say_where()
    if missing := sorted(set(_missing_in(tables, _recorded_files(path.parent)))):
        raise _missing(folder, missing)
    return as_run_file(tables, path)


def _missing(folder: Path, missing: Sequence[str]) -> ResumeError:
    which = "".join(f"\n    {printable(each)}" for each in missing[:SHOWN])
    more = f"\n    and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return ResumeError(
        f"the run in {printable(folder)} needs {counted(len(missing), 'path')} where nothing is any more:{which}{more}\n"
        "Move back what is missing; or name the folder of the project as it is now: "
        "--set 'search_paths=[\"/path/to/project\"]'."
    )


def _run_file_in(folder: Path) -> Path:
    """Return the run file of a run folder, which may be that of its newest checkpoint.

    Raises:
        RunFileError: the folder is none of a run.
    """
    if (folder / MANIFEST).is_file() or (folder.parent.name == CHECKPOINTS and NAME.fullmatch(folder.name)):
        run = printable(folder.parent.parent) if folder.parent.name == CHECKPOINTS else "RUN_FOLDER"
        raise RunFileError(
            f"{printable(folder)} is a checkpoint, and --resume takes the folder of the run: plugrad train --resume {run} "
            "goes on from its newest whole checkpoint. To go on from an older one, copy the run folder without the later "
            "checkpoints, and give the copy."
        )
    if folder.name == CHECKPOINTS and not exists(folder / RUN_FILE):
        raise RunFileError(
            f"{printable(folder)} holds the checkpoints of a run, and --resume takes the folder of the run: "
            f"plugrad train --resume {printable(folder.parent)}"
        )
    has_all = all((folder / name).is_file() for name in (RUN_FILE, PLUGINS))
    if has_all:
        return folder / RUN_FILE
    kept = [folder_of(folder, step) / RUN_FILE for step in steps_in(folder)]
    found = next((path for path in kept if path.is_file()), None)
    if found is None:
        missing = next(name for name in (RUN_FILE, PLUGINS) if not (folder / name).is_file())
        raise RunFileError(
            f"{printable(folder)} holds no run: it has no {missing}, nor a checkpoint that holds one. Give the run folder, "
            "or the run file."
        )
    if (folder / RUN_FILE).is_file():
        return folder / RUN_FILE
    logger.warning("%s has no %s: the one of its checkpoint %s is used.", printable(folder), RUN_FILE, found.parent.name)
    return found


@dataclass(frozen=True)
class Moved:
    """Where the folders of a run were, and where they may be now."""

    places: Sequence[tuple[Path, Path]]
    found: dict[str, str] = field(default_factory=dict)
    """The files that are elsewhere now."""

    @classmethod
    def of(cls, then: tuple[Any, Any], now: Path, search_paths: Any) -> Moved:
        """Return it for a run that had `then` search paths and run folder, and that goes on in another with others."""
        looked_in, output_dir = then
        before = [Path(path) for path in looked_in or () if isinstance(path, str)]
        places = [_ends(Path(output_dir), now)] if isinstance(output_dir, str) else []
        if isinstance(search_paths, list) and search_paths != looked_in:
            places += [(old, absolute(new)) for new in search_paths if isinstance(new, str) for old in before]
        return cls(places)

    def found_again(self, value: Any) -> Any:
        """Return the tables of a run file with the paths as they are now."""
        if isinstance(value, Mapping):
            return {key: self.found_again(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self.found_again(part) for part in value]
        return self._found_again(value) if isinstance(value, str) else value

    def _found_again(self, text: str) -> str:
        file, rest = named_file(text)
        if file is None or exists(file):
            return text
        for old, new in self.places:
            if file.is_relative_to(old) and exists(there := new / file.relative_to(old)):
                self.found[str(file)] = str(there)
                return f"{there}{rest}"
        return text

    def say_where(self) -> None:
        """Log what was found elsewhere."""
        if self.found:
            (old, new), *others = self.found.items()
            more = f", and {len(others)} more" if others else ""
            logger.warning("The project of this run has moved: %s is now %s%s.", printable(old), printable(new), more)


def _recorded_files(folder: Path) -> set[str]:
    """Return the files that options named and that were there when the run began, as far as its record tells."""
    with suppress(ValueError):
        return {file for component in read_plugins(folder / PLUGINS)["components"] for file in component.get("files", ())}
    return set()


def _missing_in(tables: Mapping[str, Any], recorded: Collection[str]) -> Iterator[str]:
    """Yield what a run needs and lacks: files of Python, models, and what was there. Any other file it may be to make."""
    for keys, text in _texts(tables):
        file, rest = named_file(text)
        is_model = keys[0] in MODELS and keys[-1] == "name"
        if file is not None and (rest or is_model or str(file) in recorded) and not exists(file):
            yield str(file)


def _ends(old: Path, new: Path) -> tuple[Path, Path]:
    """Return the folders that remain of two paths without what they end with alike: where a project was and is."""
    while old.name and old.name == new.name and old != new:
        old, new = old.parent, new.parent
    return old, new


def _texts(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _texts(part, (*keys, key))
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, keys)
    elif isinstance(value, str):
        yield keys, value
