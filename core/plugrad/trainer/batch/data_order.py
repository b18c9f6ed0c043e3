"""The order of the examples: each once an epoch, shuffled by the seed unless the environment has an order of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count, islice

from plugrad.contracts.environment import Example


def batches_of(examples: Sequence[Example], size: int, seed: int | None, first: int = 0) -> Iterator[list[Example]]:
    """Yield batches forever, from the one with the index `first` on. A batch may span two epochs.

    Without a seed, every epoch has the examples in their order.
    """
    stream = _endless(examples, seed, first * size)
    while True:
        yield list(islice(stream, size))


def _endless(examples: Sequence[Example], seed: int | None, first: int) -> Iterator[Example]:
    first_epoch, place = divmod(first, len(examples))
    for epoch in count(first_epoch):
        order = list(range(len(examples)))
        if seed is not None:
            random.Random(f"{seed}/{epoch}").shuffle(order)
        yield from (examples[index] for index in order[place:])
        place = 0
