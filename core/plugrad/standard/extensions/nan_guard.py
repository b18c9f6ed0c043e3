"""`nan_guard`: keep updates with a non-finite loss or gradient away from the policy."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Literal

from plugrad.errors import TrainingError
from plugrad.hookspecs import hookimpl

logger = logging.getLogger("plugrad")


class NanGuard:
    """Skip updates whose loss or gradient norm is not finite, or stop the run.

    The trainer counts all skipped updates as `skipped_updates` in `metrics.jsonl`.

    Args:
        action: "skip" leaves the policy unchanged and continues; "stop" ends the run with an error.
        max_skips: end the run after this many skipped updates in a row.
    """

    def __init__(self, action: Literal["skip", "stop"] = "skip", max_skips: int = 20) -> None:
        self._action = action
        self._max_skips = max_skips
        self._in_a_row = 0

    @hookimpl
    def before_update(self, grad_norm: float, loss: float) -> bool:
        """Return False if the loss or the gradient norm is not finite."""
        if math.isfinite(grad_norm) and math.isfinite(loss):
            self._in_a_row = 0
            return True
        self._in_a_row += 1
        what = f"the loss is {loss} and the gradient norm {grad_norm}"
        if self._action == "stop":
            raise TrainingError(f"nan_guard stopped the run: {what}.")
        if self._in_a_row >= self._max_skips:
            raise TrainingError(f"nan_guard stopped the run: {what}, after {self._in_a_row} skipped updates in a row.")
        logger.warning("nan_guard skipped an update: %s.", what)
        return False

    def state_dict(self) -> dict[str, int]:
        """Return the number of skipped updates in a row."""
        return {"in_a_row": self._in_a_row}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on counting from `state`."""
        self._in_a_row = state["in_a_row"]
