"""What a run left behind, for whoever looks for what went wrong in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Series:
    """The values that one number took, by step."""

    steps: NDArray[np.int64]
    """The steps that recorded it, in order, counted from 1; 0 is the evaluation before training."""
    values: NDArray[np.float64]
    """Its value at each. NaN where the run recorded null, which is a number that is not finite."""

    def __len__(self) -> int:
        return len(self.values)

    def finite(self) -> Series:
        """Return the steps at which it was finite."""
        is_finite = np.isfinite(self.values)
        return Series(self.steps[is_finite], self.values[is_finite])

    def trained(self) -> Series:
        """Return what was recorded in training: all but the evaluation before it."""
        return Series(self.steps[self.steps > 0], self.values[self.steps > 0])

    def first(self, share: float) -> Series:
        """Return the first part of it, at least one value if there is any."""
        count = max(1, round(share * len(self)))
        return Series(self.steps[:count], self.values[:count])

    def last(self, share: float) -> Series:
        """Return the last part of it, at least one value if there is any."""
        count = max(1, round(share * len(self)))
        return Series(self.steps[-count:], self.values[-count:])

    def mean(self) -> float:
        """Return the mean of the finite values, NaN if there is none."""
        values = self.values[np.isfinite(self.values)]
        return float(values.mean()) if len(values) else float("nan")

    def median(self) -> float:
        """Return the median of the finite values, NaN if there is none."""
        values = self.values[np.isfinite(self.values)]
        return float(np.median(values)) if len(values) else float("nan")


NOTHING = Series(np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True)
class RunRecords:
    """What a run left in its folder."""

    folder: Path
    """The run folder."""
    run_file: Mapping[str, Any]
    """The tables of `run.toml`, in which every default is filled in."""
    plugins: Mapping[str, Any]
    """What `plugins.json` holds."""
    num_steps: int
    """How many steps are recorded, without the evaluation before training."""
    numbers: Mapping[str, Series] = field(default_factory=dict)
    """Every number of `metrics.jsonl`. Of a run of thousands of steps, an even choice of its steps, all evaluations, and all
    steps with a skipped update or a number that is not finite."""
    samples: Iterable[Mapping[str, Any]] = ()
    """The lines of `samples.jsonl`, read when they are asked for; none if the run kept none."""

    def series(self, name: str) -> Series:
        """Return the finite values of a number; no value if the run has none of this name."""
        return self.numbers[name].finite() if name in self.numbers else NOTHING

    def setting(self, key: str) -> Any:
        """Return the value of a key of the run file, such as `optimizer.lr`; None if it is unset."""
        value: Any = self.run_file
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value
