"""`[evaluation]`: greedy completions of held-out examples."""

from __future__ import annotations

from pydantic import Field, model_validator

from plugrad.config.tables.number_types import Count, CountOrZero, Finite
from plugrad.config.tables.table import Table


class EvaluationTable(Table):
    """`[evaluation]`: greedy completions of held-out examples."""

    every_steps: CountOrZero = Field(
        default=0,
        description="Steps between evaluations. Also runs before the first and after the last step. 0 turns it off.",
    )
    num_examples: Count = Field(default=256, description="Maximum number of held-out examples, always the same ones.")
    stop_at_reward: Finite | None = Field(
        default=None, description="Stop the run once the mean held-out reward reaches this value."
    )

    @model_validator(mode="after")
    def _check_stop(self) -> EvaluationTable:
        if self.stop_at_reward is not None and not self.every_steps:
            raise ValueError("stop_at_reward needs evaluations: set every_steps")
        return self
