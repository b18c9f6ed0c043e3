"""`timing`: seconds spent in each hook, to see what a plugin costs."""

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
    """Report the wall-clock seconds spent in each computing hook since the last report.

    The numbers include core and the extensions listed before this one, so list it last to measure them all. On a GPU they
    measure the time until the work is queued, not until it is done.

    Reports:
        prepare_advantages_s: time in `prepare_advantages`.
        compute_advantages_s: time in `compute_advantages`, which calls the advantage.
        prepare_loss/NAME_s: time in `prepare_loss`, for each loss.
        compute_loss/NAME_s: time in `compute_loss`, which calls the loss, for each loss.
        compute_metrics_s: time in `compute_metrics`, which calls all metrics. Reported one update late.
    """

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @hookimpl(wrapper=True)
    def prepare_advantages(self, inputs: AdvantageInputs) -> Generator[None, AdvantageInputs, AdvantageInputs]:
        """Time the hook."""
        return (yield from self._timed("prepare_advantages"))

    @hookimpl(wrapper=True)
    def compute_advantages(self, inputs: AdvantageInputs) -> Generator[None, AdvantageOutputs, AdvantageOutputs]:
        """Time the hook."""
        return (yield from self._timed("compute_advantages"))

    @hookimpl(wrapper=True)
    def prepare_loss(
        self, component: SelectedLoss, inputs: BatchLossInputs
    ) -> Generator[None, BatchLossInputs, BatchLossInputs]:
        """Time the hook for each loss."""
        return (yield from self._timed(f"prepare_loss/{component.label}"))

    @hookimpl(wrapper=True)
    def compute_loss(self, component: SelectedLoss, inputs: BatchLossInputs) -> Generator[None, LossOutputs, LossOutputs]:
        """Time the hook for each loss."""
        return (yield from self._timed(f"compute_loss/{component.label}"))

    @hookimpl(wrapper=True)
    def compute_metrics(self, inputs: MetricInputs) -> Generator[None, Mapping[str, Measure], Mapping[str, Measure]]:
        """Time the hook, and report all times."""
        seconds, self._seconds = self._seconds, defaultdict(float)
        measures: Mapping[str, Measure] = yield from self._timed("compute_metrics")
        return {**measures, **{f"timing/{hook}_s": Sum(value) for hook, value in seconds.items()}}

    def state_dict(self) -> dict[str, dict[str, float]]:
        """Return the seconds that are not reported yet."""
        return {"seconds": dict(self._seconds)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Restore the seconds from `state`."""
        self._seconds = defaultdict(float, state["seconds"])

    def _timed(self, hook: str) -> Generator[None, T, T]:
        started = time.perf_counter()
        result = yield
        self._seconds[hook] += time.perf_counter() - started
        return result
