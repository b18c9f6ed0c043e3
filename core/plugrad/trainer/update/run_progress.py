"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far the run is, as losses and metrics see it."""

    step: int
    max_steps: int
    version: int = 0
    """The number of weight updates so far: the version of the policy before the next one."""
