"""`[profile]`: steps whose time is traced."""

from __future__ import annotations

from pydantic import Field

from plugrad.config.tables.number_types import Count
from plugrad.config.tables.table import Table


class ProfileTable(Table):
    """`[profile]`: steps whose time is traced."""

    steps: list[Count] = Field(
        default=[],
        description="Steps, counted from 1, of which PyTorch's profiler writes a trace into `profiles/`, with the hooks and "
        "plugins as named ranges. A step that is traced takes longer.",
    )
