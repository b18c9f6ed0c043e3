"""`[checkpoint]`: when a run saves all that it needs to go on, and what it keeps."""

from __future__ import annotations

from pydantic import Field

from plugrad.config.tables.number_types import Count, CountOrZero, PositiveOrZero
from plugrad.config.tables.table import Table


class CheckpointTable(Table):
    """`[checkpoint]`: when a run saves all that it needs to go on, and what it keeps."""

    every_minutes: PositiveOrZero = Field(
        default=10.0, description="Minutes between checkpoints, written after the step. 0 turns this off."
    )
    every_steps: CountOrZero = Field(default=0, description="Also a checkpoint after every so many steps. 0 turns this off.")
    keep: Count = Field(default=2, description="How many of the newest checkpoints are kept.")
    keep_every_steps: CountOrZero = Field(
        default=0, description="A checkpoint after every so many steps, kept for ever. 0 turns this off."
    )
    keep_best: str | None = Field(
        default=None,
        min_length=1,
        description="A number of `metrics.jsonl`, such as `eval/reward`: also a checkpoint after every step at which it is "
        "greater than at any step before. The last of these, which is the best, is kept beside the others.",
    )
