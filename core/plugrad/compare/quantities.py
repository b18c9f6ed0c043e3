"""The numbers of a comparison: their names, how they are computed, and how they are shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, stdev

from plugrad.compare.planned_run import FinishedRun, Record, series

TAIL = 10
"""The end of a run is the last tenth of its steps, at least one step."""

OfRun = Callable[[FinishedRun, int], float | None]


@dataclass(frozen=True)
class Statistic:
    """A number over seeds."""

    value: float
    spread: float | None
    """The sample standard deviation; None for a single seed."""
    num_seeds: int

    @classmethod
    def of(cls, values: Sequence[float], over_seeds: Callable[[Iterable[float]], float] = fmean) -> Statistic | None:
        """Return the mean of the values (or another statistic) and their spread; None if there are no values."""
        if not values:
            return None
        return cls(over_seeds(values), stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Quantity:
    """A number of a run, and of an arm over its seeds."""

    name: str
    heading: str
    meaning: str
    of_run: OfRun
    """Computes it from a finished run and the token budget of the reward at equal tokens."""
    shown: Callable[[float], str]
    over_seeds: Callable[[Iterable[float]], float] = fmean
    has_spread: bool = False
    is_compared: bool = False
    """Whether the difference from the baseline is also shown."""

    def over(self, numbers: Iterable[Mapping[str, float | None]]) -> Statistic | None:
        """Return the statistic of an arm from the numbers of its runs."""
        return Statistic.of([value for run in numbers if (value := run[self.name]) is not None], self.over_seeds)


def at_the_end(records: Sequence[Record], name: str) -> float | None:
    """Return the mean of `name` over the last tenth of the steps, at least one."""
    values = [value for _, value in series(list(records[-math.ceil(len(records) / TAIL) :]), name)]
    return fmean(values) if values else None


def tokens_so_far(records: Sequence[Record]) -> list[int]:
    """Return the total tokens sampled by the end of each step."""
    return list(accumulate(int(record["num_tokens"]) for record in records))


def least_tokens(runs: Iterable[FinishedRun]) -> int:
    """Return the total tokens of the run that sampled fewest."""
    return min((tokens_so_far(run.records)[-1] for run in runs if run.records), default=0)


def _within(run: FinishedRun, token_budget: int) -> list[Record]:
    so_far = tokens_so_far(run.records)
    return [record for record, tokens in zip(run.records, so_far, strict=True) if tokens <= token_budget]


def _greatest(records: Sequence[Record], name: str) -> float | None:
    return max((value for _, value in series(list(records), name)), default=None)


def _total(records: Sequence[Record], name: str) -> float:
    return float(sum(value for _, value in series(list(records), name)))


def share(value: float) -> str:
    """Format a reward."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Format seconds as `9.5 s`, `4:05` or `1:04:05`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count(value: float) -> str:
    """Format a count as `950`, `12.3k` or `4.56M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


QUANTITIES = (
    Quantity(
        "reward",
        "REWARD",
        "the training reward at the end: the mean of `reward` over the last tenth of the run's steps, at least one step",
        lambda run, _: at_the_end(run.records, "reward"),
        share,
        has_spread=True,
        is_compared=True,
    ),
    Quantity(
        "held_out",
        "HELD-OUT",
        "the run's last `eval/reward`, if the run file sets `evaluation.every_steps`",
        lambda run, _: run.held_out[-1][1] if run.held_out else None,
        share,
        has_spread=True,
        is_compared=True,
    ),
    Quantity(
        "reward_at_equal_tokens",
        "EQUAL TOKENS",
        "the reward at equal tokens: like REWARD, with every run cut after the last step at which its tokens do not exceed "
        "the total of the run that sampled fewest",
        lambda run, token_budget: at_the_end(_within(run, token_budget), "reward"),
        share,
        has_spread=True,
    ),
    Quantity("num_steps", "STEPS", "completed steps", lambda run, _: float(len(run.records)), lambda value: f"{value:.4g}"),
    Quantity("num_tokens", "TOKENS", "total sampled tokens", lambda run, _: _total(run.records, "num_tokens"), count),
    Quantity(
        "seconds",
        "TIME",
        "the sum of the steps' `seconds`, without start-up, loading and evaluation",
        lambda run, _: _total(run.records, "seconds"),
        duration,
    ),
    Quantity(
        "memory_gib",
        "MEMORY",
        "the maximum `memory_gib` of any run: device memory, or process memory on a CPU",
        lambda run, _: _greatest(run.records, "memory_gib"),
        lambda value: f"{value:.2f} GiB",
        over_seeds=max,
    ),
    Quantity(
        "mismatch",
        "MISMATCH",
        "the mean of `inference_mismatch/kl` over the last tenth of the steps, if that metric runs",
        lambda run, _: at_the_end(run.records, "inference_mismatch/kl"),
        lambda value: f"{value:.1e}",
    ),
    Quantity(
        "entropy",
        "ENTROPY",
        "the mean of `entropy/mean` over the last tenth of the steps, if that metric runs",
        lambda run, _: at_the_end(run.records, "entropy/mean"),
        share,
    ),
)
"""In the order of the table's columns."""
