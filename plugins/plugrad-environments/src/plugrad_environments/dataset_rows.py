"""The rows of a dataset of the `datasets` package: from the hub, from local files, from a saved folder, as a stream."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from plugrad import DataError, PlugradError
from plugrad_compat.trl.dataset import FORMATS, is_saved, special_file
from plugrad_environments.extras import needed
from plugrad_environments.row_prompts import Row
from plugrad_environments.wording import among, cut, listed, reason

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
PICTURES = frozenset({"Image", "Audio", "Video", "Pdf"})
"""Features of `datasets` that are decoded to something other than text and numbers."""
SHUFFLED_AHEAD = 10_000
NUMBER = "__row__"


@dataclass(frozen=True)
class Rows:
    """The rows of one split, their columns, and a name for messages and for the ids of examples."""

    name: str
    columns: Sequence[str]
    not_text: Sequence[str]
    """Columns with pictures or sound, which are left out."""
    rows: Sequence[tuple[int, Row]]
    """Each row and its number in the split."""


@dataclass(frozen=True)
class DatasetSource:
    """Where rows come from, and in which order."""

    dataset: Path | list[Path]
    config_name: str | None
    streaming: bool
    shuffle: bool
    seed: int

    @property
    def name(self) -> str:
        """The dataset as it is called in messages."""
        several = self.dataset if isinstance(self.dataset, list) else [self.dataset]
        return f"the dataset {listed(path.as_posix() for path in several)}"

    def read(self, split: str, limit: int | None) -> Rows:
        """Return the rows of a split, at most `limit`.

        Raises:
            DataError: the dataset or the split cannot be read, does not exist or is empty.
            PluginError: the package `datasets` is not installed.
        """
        try:
            found = self._load(split)
            if self.shuffle:
                found = self._shuffled(found)
            features = getattr(found, "features", None) or {}
            not_text = sorted(name for name, feature in features.items() if type(feature).__name__ in PICTURES)
            kept = found.remove_columns(not_text) if not_text else found
            rows = list(_numbered(islice(kept, limit)))
        except PlugradError:
            raise
        except Exception as error:
            raise DataError(
                f"the split {split!r} of {self.name} cannot be read: {reason(error)}.{self._looked_in()}"
            ) from error
        if not rows:
            raise DataError(f"the split {split!r} of {self.name} has no rows.")
        columns = [name for name in (getattr(kept, "column_names", None) or list(rows[0][1])) if name != NUMBER]
        first = self.dataset[0] if isinstance(self.dataset, list) else self.dataset
        return Rows(f"{first.name}:{split}", columns, not_text, rows)

    def _shuffled(self, found: Any) -> Any:
        numbered = (
            found.map(_with_number, with_indices=True) if self.streaming else found.add_column(NUMBER, range(len(found)))
        )
        return numbered.shuffle(self.seed, **({"buffer_size": SHUFFLED_AHEAD} if self.streaming else {}))

    def _load(self, split: str) -> Any:
        datasets = needed("datasets", extra="hf", for_what="the environment 'hf'")
        datasets.disable_progress_bars()
        files = self.dataset if isinstance(self.dataset, list) else [self.dataset]
        if not files:
            raise DataError("dataset is an empty list. Name at least one file.")
        for path in files:
            if special := special_file(path):
                raise DataError(f"{self.name} cannot be read: {special} is a pipe, socket or device.")
        if isinstance(self.dataset, list) or self.dataset.is_file():
            kind = _format(files)
            found = [str(path) for path in files]
            return datasets.load_dataset(kind, data_files=found, split=split, streaming=self.streaming)
        if is_saved(self.dataset):
            return self._saved(datasets, split)
        is_hub_id = HUB_ID.fullmatch(self.dataset.as_posix()) and not FORMATS.keys() & set(self.dataset.suffixes)
        if not self.dataset.is_dir() and not is_hub_id:
            raise DataError(
                f"{self.name} does not exist: it is neither a file, nor a folder, nor the id of a dataset on the hub."
            )
        return datasets.load_dataset(self.dataset.as_posix(), self.config_name, split=split, streaming=self.streaming)

    def _saved(self, datasets: Any, split: str) -> Any:
        saved = datasets.load_from_disk(str(self.dataset))
        if isinstance(saved, Mapping):
            if split not in saved:
                raise DataError(f"{self.name} has no split {split!r}. It has {listed(saved)}.{among(split, saved)}")
            saved = saved[split]
        return saved.to_iterable_dataset() if self.streaming else saved

    def _looked_in(self) -> str:
        if isinstance(self.dataset, list) or self.dataset.exists():
            return ""
        return " It is no file or folder beside the run file or in the working directory, so it was looked up on the hub."


def _format(files: Sequence[Path]) -> str:
    kinds: dict[str, str] = {}
    for path in files:
        if not path.is_file():
            raise DataError(f"the file {path.as_posix()} does not exist.")
        known = [FORMATS[suffix] for suffix in path.suffixes if suffix in FORMATS]
        if not known:
            raise DataError(f"the dataset {path.as_posix()} is a file of no known kind. Known are {listed(FORMATS)}.")
        kinds[known[-1]] = path.name
    if len(kinds) > 1:
        raise DataError(f"the files of a dataset are of one kind, and these are of several: {listed(kinds.values())}.")
    return next(iter(kinds))


def _with_number(row: Row, number: int) -> dict[str, Any]:
    return {**row, NUMBER: number}


def _numbered(rows: Iterator[Any]) -> Iterator[tuple[int, Row]]:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(f"row {number} is {cut(row)}, not a row with columns.")
        yield row.get(NUMBER, number), {name: value for name, value in row.items() if name != NUMBER}
