"""The results of a comparison: numbers of every run, statistics of every arm, and differences from the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plugrad.compare.planned_run import FinishedRun, PlannedRun
from plugrad.compare.quantities import QUANTITIES, Statistic, least_tokens

Numbers = dict[str, float | None]


@dataclass(frozen=True)
class ArmSummary:
    """The results of an arm."""

    name: str
    num_planned: int
    runs: dict[int, FinishedRun]
    """The successful runs, by seed."""
    numbers: dict[int, Numbers]
    """Every quantity of each run."""
    over_seeds: dict[str, Statistic | None]
    differences: dict[str, Statistic | None]
    """Differences from the baseline, paired by seed; empty for the baseline itself."""


@dataclass(frozen=True)
class Summary:
    """The results of a comparison so far."""

    arms: list[ArmSummary]
    baseline: str
    token_budget: int
    """The token count at which every run is cut for the reward at equal tokens."""

    @property
    def num_finished(self) -> int:
        """The number of successful runs."""
        return sum(len(arm.runs) for arm in self.arms)


def summarize(runs: Sequence[PlannedRun], baseline: str) -> Summary:
    """Read the records of the finished runs, and compute everything."""
    finished = [FinishedRun(run) for run in runs if run.is_finished]
    finished = [found for found in finished if found.records]
    token_budget = least_tokens(finished)
    names = list(dict.fromkeys(run.arm for run in runs))
    numbers = {name: _numbers(finished, name, token_budget) for name in names}
    arms = [
        ArmSummary(
            name=name,
            num_planned=sum(run.arm == name for run in runs),
            runs={found.run.seed: found for found in finished if found.run.arm == name},
            numbers=numbers[name],
            over_seeds={quantity.name: quantity.over(numbers[name].values()) for quantity in QUANTITIES},
            differences=_differences(numbers[name], numbers[baseline]) if name != baseline else {},
        )
        for name in names
    ]
    return Summary(arms, baseline, token_budget)


def _numbers(finished: Sequence[FinishedRun], arm: str, token_budget: int) -> dict[int, Numbers]:
    return {
        found.run.seed: {quantity.name: quantity.of_run(found, token_budget) for quantity in QUANTITIES}
        for found in finished
        if found.run.arm == arm
    }


def _differences(own: dict[int, Numbers], baselines: dict[int, Numbers]) -> dict[str, Statistic | None]:
    """Pair the runs of each seed, so that the effect of the seed cancels."""
    paired = [(own[seed], baselines[seed]) for seed in own if seed in baselines]
    return {
        quantity.name: Statistic.of([_minus(left[quantity.name], right[quantity.name]) for left, right in paired])
        for quantity in QUANTITIES
        if quantity.is_compared and all(None not in (left[quantity.name], right[quantity.name]) for left, right in paired)
    }


def _minus(left: float | None, right: float | None) -> float:
    assert left is not None
    assert right is not None
    return left - right
