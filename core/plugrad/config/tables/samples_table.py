"""`[samples]`: prompts and completions that a run writes down for people to read."""

from __future__ import annotations

from pydantic import Field

from plugrad.config.tables.number_types import Count, CountOrZero
from plugrad.config.tables.table import Table


class SamplesTable(Table):
    """`[samples]`: prompts and completions that a run writes down for people to read."""

    every_steps: CountOrZero = Field(
        default=10,
        description="Steps between samples of the training batch, in `samples.jsonl`. Also of the first and last "
        "step, and of every evaluation. 0 turns all of them off.",
    )
    num: Count = Field(
        default=8, description="How many rollouts of a batch, evenly spaced from the least reward to the most."
    )
