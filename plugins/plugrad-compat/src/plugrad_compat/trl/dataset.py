"""Examples from a dataset of the `datasets` package (a hub id, files or a saved folder) or from JSON lines."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugrad import DataError, PluginError, read_json_lines

FORMATS = {
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
}
"""The `datasets` format of a file, by its suffix."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """Where examples come from."""

    dataset: Path
    """A file, a folder written by `save_to_disk`, or a hub id."""
    config_name: str | None
    prompt_column: str

    def read(self, split: str) -> list[Row]:
        """Return the examples of a split, each with a `prompt` column.

        Raises:
            DataError: the split cannot be read, or the split or column does not exist.
            PluginError: the `datasets` package is not installed.
        """
        if special := special_file(self.dataset):
            raise DataError(
                f"the dataset {self.dataset.as_posix()!r} cannot be read: {special} is a pipe, socket or device."
            )
        if self.dataset.suffix == ".jsonl" and self.dataset.is_file():
            rows, columns = _lines(self.dataset)
        else:
            rows = self._load(split)
            columns = list(rows.column_names)
        if self.prompt_column not in columns:
            raise DataError(
                f"the dataset {self.dataset.as_posix()!r} has no column {self.prompt_column!r}. It has "
                f"{', '.join(columns)}. Set prompt_column under [environment.kwargs]."
            )
        name = f"{self.dataset.name}:{split}"
        return [self._example(row, f"{name}:{number}") for number, row in enumerate(rows)]

    def _example(self, row: Row, name: str) -> Row:
        return {"example_id": name, **row, "prompt": row[self.prompt_column]}

    def _load(self, split: str) -> Any:
        datasets = _datasets()
        try:
            if is_saved(self.dataset):
                saved = datasets.load_from_disk(str(self.dataset))
                return saved[split] if isinstance(saved, Mapping) else saved
            if self.dataset.is_file():
                return datasets.load_dataset(self._format(), data_files=str(self.dataset), split="train")
            return datasets.load_dataset(self.dataset.as_posix(), self.config_name, split=split)
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                f"the split {split!r} of the dataset {self.dataset.as_posix()!r} cannot be read: {type(error).__name__}: "
                f"{error}. It is looked up as a file beside the run file and in the working directory, then on the hub."
            ) from error

    def _format(self) -> str:
        found = FORMATS.get(self.dataset.suffix)
        if found is None:
            raise DataError(f"the dataset {str(self.dataset)!r} is a file of no known kind. Known are {', '.join(FORMATS)}.")
        return found


def held_out(examples: Sequence[Row], number: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Return the examples to train on and `number` held-out ones, drawn with the seed.

    Raises:
        DataError: no example would be left to train on.
    """
    if number >= len(examples):
        raise DataError(f"num_eval is {number}, but the dataset has {len(examples)} examples: none would be left.")
    chosen = set(random.Random(seed).sample(range(len(examples)), number))
    train = [example for index, example in enumerate(examples) if index not in chosen]
    return train, [examples[index] for index in sorted(chosen)]


def _lines(path: Path) -> tuple[list[Row], list[str]]:
    """Return the rows and the columns of a JSON-lines file, the only format that needs no package."""
    rows = [row for _, row in read_json_lines(path, skip_empty=True)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in columns} for row in rows], columns


def special_file(path: Path) -> Path | None:
    """Return a pipe, socket or device where `path` leads, or in it, as in a saved dataset: to read one may never end."""
    places = [path, *path.glob("*"), *path.glob("*/*")] if is_saved(path) else [path]
    return next((place for place in places if place.exists() and not (place.is_file() or place.is_dir())), None)


def is_saved(path: Path) -> bool:
    """Return whether a folder was written by `save_to_disk`."""
    return (path / "dataset_dict.json").exists() or (path / "state.json").exists()


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise PluginError(
            "the environment 'trl' reads all files but .jsonl with the `datasets` package, which is not installed. Install "
            "it: pip install 'plugrad-compat[datasets]' (from a clone: pip install './plugins/plugrad-compat[datasets]')."
        ) from error
    datasets.disable_progress_bars()
    return datasets
