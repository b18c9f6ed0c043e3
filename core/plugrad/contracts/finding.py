"""What a diagnosis says: one thing that went wrong in a run, how one sees it, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["problem", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that went wrong in a run."""

    name: str
    """What this is called, in lower case with underscores, such as `entropy_collapse`."""
    severity: Severity
    """"problem": the run cannot learn so, or has stopped learning. "warning": worth a look."""
    title: str
    """A short sentence without a full stop."""
    evidence: str
    """The numbers that show it, with their names and steps: one sentence or more."""
    remedy: str
    """What to do, with the exact keys to set."""
