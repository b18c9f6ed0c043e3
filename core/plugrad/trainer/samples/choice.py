"""Which rollouts of a batch become samples: by their rewards alone, so that no random state changes."""

from __future__ import annotations

from collections.abc import Sequence


def chosen(rewards: Sequence[Sequence[float]], num: int) -> list[tuple[int, int]]:
    """Return the places of at most `num` rollouts, as (group, index), in the order of the batch.

    In the order of their rewards they are evenly spaced, from the least to the most. A single one is the median.
    """
    places = [(group, index) for group, row in enumerate(rewards) for index in range(len(row))]
    # Of equal rewards the first in the batch comes first.
    places.sort(key=lambda place: rewards[place[0]][place[1]])
    if num == 1 and places:
        return [places[len(places) // 2]]
    last = len(places) - 1
    return sorted({places[round(i * last / (num - 1))] for i in range(num)}) if last >= num else sorted(places)
