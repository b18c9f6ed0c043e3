"""What a report could not read: it is made all the same, and says which file, which line and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from plugrad.errors import DataError, PlugradError
from plugrad.json_text import read_json_lines
from plugrad.shown import escaped, printable

T = TypeVar("T")
MOST_LINES = 3
"""Of one file, with their reasons. The others are counted."""


class PassedOver:
    """Collects what is passed over in the records of a run."""

    def __init__(self) -> None:
        self._told: dict[Path, list[str]] = {}

    def tell(self, path: Path, why: str) -> None:
        """Note what is wrong with a file or one of its lines; the text names it."""
        self._told.setdefault(path, []).append(escaped(why))

    def reading(self, path: Path, read: Callable[[Path], T], otherwise: T) -> T:
        """Return what `read` makes of a file, or `otherwise` if it cannot be read."""
        try:
            return read(path)
        except PlugradError as error:
            # Its message has the path.
            self.tell(path, str(error))
        # Whatever it is: another version of plugrad, or somebody, wrote the file, and the rest of the run is shown.
        except Exception as error:
            self.tell(path, f"{printable(path)} cannot be read: {type(error).__name__}: {printable(error)}.")
        return otherwise

    def lines_of(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number and the object of each line that can be read."""

        def pass_over(error: DataError) -> None:
            self.tell(path, str(error))

        # A run that goes on, or was killed, may have written half of the last line.
        return read_json_lines(path, what="records", leaves_out_half_a_line=True, pass_over=pass_over)

    def texts(self) -> list[str]:
        """Return a sentence or two for each: of one file the first lines, and how many more there are."""
        found = []
        for path, told in self._told.items():
            found += told[:MOST_LINES]
            if (more := len(told) - MOST_LINES) > 0:
                found.append(f"{printable(path)}: {more:,} more {'line' if more == 1 else 'lines'} like these.")
        return found
