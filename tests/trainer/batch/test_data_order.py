"""The order in which steps take the examples."""

from __future__ import annotations

from itertools import islice

from plugrad.trainer.batch.data_order import batches_of

EXAMPLES = [{"prompt": str(number)} for number in range(5)]


def taken(seed: int | None, batches: int, first: int = 0) -> list[str]:
    return [example["prompt"] for batch in islice(batches_of(EXAMPLES, 2, seed, first), batches) for example in batch]


def test_every_epoch_has_each_example_once_in_another_order():
    found = taken(0, 5)
    assert sorted(found[:5]) == sorted(found[5:]) == list("01234")
    assert found[:5] != found[5:]


def test_without_a_seed_they_come_in_their_order():
    assert "".join(taken(None, 5)) == "0123401234"


def test_a_run_that_goes_on_takes_what_comes_next():
    for seed in (None, 0):
        assert taken(seed, 3, first=2) == taken(seed, 5)[4:]
