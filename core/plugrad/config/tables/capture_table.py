"""`[capture]`: the steps whose batch is kept for `plugrad replay`."""

from __future__ import annotations

from pydantic import Field

from plugrad.config.tables.number_types import CountOrZero
from plugrad.config.tables.table import Table


class CaptureTable(Table):
    """`[capture]`: the steps whose batch is kept for `plugrad replay`."""

    steps: list[CountOrZero] = Field(
        default=[], description="Steps whose batch is kept, counted from 1 as in the records. 0 is the first step, too."
    )
    on_failure: bool = Field(
        default=True,
        description="Keep the batch also when a loss, its gradient, the advantage or an extension around them fails.",
    )

    def is_due(self, step: int) -> bool:
        """Return whether the batch of this step is kept; steps count from 1."""
        return step in self.steps or (step == 1 and 0 in self.steps)
