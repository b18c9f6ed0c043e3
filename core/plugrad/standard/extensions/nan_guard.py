"""`nan_guard`: an update whose loss or gradient is not finite does not reach the policy."""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Mapping
from typing import Literal

from plugrad.contracts.measures import Measure, Sum
from plugrad.contracts.metric import MetricInputs
from plugrad.errors import TrainingError
from plugrad.hookspecs import hookimpl

logger = logging.getLogger("plugrad")


class NanGuard:
    """Skips an update whose loss or gradient norm is not finite, and counts it; or stops the run.

    Args:
        action: "skip" leaves the policy as it is and goes on; "stop" ends the run with an error.
        max_skips: end the run when so many updates in a row were skipped.

    Reports:
        skipped_updates: updates that were skipped since the last report.
    """

    def __init__(self, action: Literal["skip", "stop"] = "skip", max_skips: int = 20) -> None:
        self._action = action
        self._max_skips = max_skips
        self._skipped = 0
        self._in_a_row = 0

    @hookimpl
    def before_update(self, grad_norm: float, loss: float) -> bool:
        """Return False where the loss or the gradient norm is not finite."""
        if math.isfinite(grad_norm) and math.isfinite(loss):
            self._in_a_row = 0
            return True
        self._skipped += 1
        self._in_a_row += 1
        what = f"the loss is {loss} and the gradient norm {grad_norm}"
        if self._action == "stop":
            raise TrainingError(f"nan_guard stopped the run: {what}.")
        if self._in_a_row >= self._max_skips:
            raise TrainingError(f"nan_guard stopped the run: {what}, and {self._in_a_row} updates in a row were skipped.")
        logger.warning("nan_guard skipped an update: %s.", what)
        return False

    @hookimpl(wrapper=True)
    def compute_metrics(self, inputs: MetricInputs) -> Generator[None, Mapping[str, Measure], Mapping[str, Measure]]:
        """Add the number of updates that were skipped since the last report."""
        measures = yield
        skipped, self._skipped = self._skipped, 0
        return {**measures, "nan_guard/skipped_updates": Sum(float(skipped))}
