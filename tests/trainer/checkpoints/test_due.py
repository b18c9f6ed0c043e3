"""When a checkpoint is due."""

import pytest

from plugrad.config.tables.checkpoint_table import CheckpointTable
from plugrad.trainer.checkpoints.writing import Due
from plugrad.trainer.ranks.ranks import Ranks


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def steps_due(due, last=12):
    found = []
    for step in range(1, last + 1):
        if due.after(step, Ranks()):
            due.written()
            found.append(step)
    return found


@pytest.mark.parametrize(
    ("table", "steps"),
    [
        ({}, []),
        ({"every_steps": 5}, [5, 10]),
        ({"every_steps": 5, "keep_every_steps": 4}, [4, 5, 8, 10, 12]),
        ({"every_minutes": 0.0, "keep_every_steps": 6}, [6, 12]),
    ],
)
def test_by_steps(table, steps):
    assert steps_due(Due(CheckpointTable(**table), Clock())) == steps


def test_by_the_clock_counted_from_the_last_one():
    clock = Clock()
    due = Due(CheckpointTable(), clock)
    clock.now += 599
    assert not due.after(1, Ranks())
    clock.now += 1
    assert due.after(2, Ranks())
    due.written()
    clock.now += 599
    assert not due.after(3, Ranks())


def test_without_minutes_the_clock_does_not_matter():
    clock = Clock()
    due = Due(CheckpointTable(every_minutes=0.0), clock)
    clock.now += 1e9
    assert not due.after(1, Ranks())


def test_a_run_ends_with_one_if_it_has_written_one_or_was_asked_to():
    assert not Due(CheckpointTable(), Clock()).at_the_end
    assert Due(CheckpointTable(every_steps=50), Clock()).at_the_end
    due = Due(CheckpointTable(), Clock())
    due.written()
    assert due.at_the_end
