"""`timing`: seconds in each hook, so that one sees what a plugin costs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator, Mapping
from typing import TypeVar

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.loss import BatchLossInputs, LossOutputs, SelectedLoss
from plugrad.contracts.measures import Measure, Sum
from plugrad.contracts.metric import MetricInputs
from plugrad.hookspecs import hookimpl

T = TypeVar("T")


class Timing:
    """Adds the seconds of wall-clock time in each computing hook since the last report.

    It sees core and the extensions listed before it: list it last to see them all. On a GPU these are the seconds until the
    work is queued, not until it is done.

    Reports:
        prepare_advantages_s: in `prepare_advantages`.
        compute_advantages_s: in `compute_advantages`: the advantage.
        prepare_loss/NAME_s: in `prepare_loss`, for each loss.
        compute_loss/NAME_s: in `compute_loss`: each loss.
        compute_metrics_s: in `compute_metrics`: all metrics. Reported one update late.
    """

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @hookimpl(wrapper=True)
    def prepare_advantages(self, inputs: AdvantageInputs) -> Generator[None, AdvantageInputs, AdvantageInputs]:
        """Time it."""
        return (yield from self._timed("prepare_advantages"))

    @hookimpl(wrapper=True)
    def compute_advantages(self, inputs: AdvantageInputs) -> Generator[None, AdvantageOutputs, AdvantageOutputs]:
        """Time it."""
        return (yield from self._timed("compute_advantages"))

    @hookimpl(wrapper=True)
    def prepare_loss(
        self, component: SelectedLoss, inputs: BatchLossInputs
    ) -> Generator[None, BatchLossInputs, BatchLossInputs]:
        """Time it, for each loss."""
        return (yield from self._timed(f"prepare_loss/{component.label}"))

    @hookimpl(wrapper=True)
    def compute_loss(self, component: SelectedLoss, inputs: BatchLossInputs) -> Generator[None, LossOutputs, LossOutputs]:
        """Time it, for each loss."""
        return (yield from self._timed(f"compute_loss/{component.label}"))

    @hookimpl(wrapper=True)
    def compute_metrics(self, inputs: MetricInputs) -> Generator[None, Mapping[str, Measure], Mapping[str, Measure]]:
        """Time it, and report."""
        seconds, self._seconds = self._seconds, defaultdict(float)
        measures: Mapping[str, Measure] = yield from self._timed("compute_metrics")
        return {**measures, **{f"timing/{hook}_s": Sum(value) for hook, value in seconds.items()}}

    def _timed(self, hook: str) -> Generator[None, T, T]:
        started = time.perf_counter()
        result = yield
        self._seconds[hook] += time.perf_counter() - started
        return result
