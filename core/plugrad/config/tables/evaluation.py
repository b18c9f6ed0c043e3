"""`[evaluation]`: greedy completions of held-out examples."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, model_validator

from plugrad.config.tables.table import Table


class EvaluationTable(Table):
    """`[evaluation]`: greedy completions of held-out examples."""

    every_steps: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Evaluate every so many steps, and before the first and after the last; 0: never."
    )
    num_examples: PositiveInt = Field(default=256, description="At most so many held-out examples, always the same.")
    stop_at_reward: float | None = Field(
        default=None, description="End the run once the mean held-out reward is this or more."
    )

    @model_validator(mode="after")
    def _stops_only_if_it_looks(self) -> EvaluationTable:
        if self.stop_at_reward is not None and not self.every_steps:
            raise ValueError("stop_at_reward needs every_steps: set how often to evaluate")
        return self
