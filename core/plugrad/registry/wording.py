"""Lists in messages, of a length that can be read."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 6


def some_of(items: Sequence[str], joint: str = ", ", most: int = MOST) -> str:
    """Return the items joined: all of them, or the first `most` and the number of the others."""
    others = len(items) - most
    # "and 1 other" would be no shorter.
    return joint.join(items if others < 2 else [*items[:most], f"{others:,} others"])
