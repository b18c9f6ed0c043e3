"""`kill -9` at any moment costs the steps since the last checkpoint, and nothing else."""

import os
import random
import time
from dataclasses import dataclass

import pytest
from killed_runs import STEPS, Fork, checkpoints_in, newest_in, outcome

SEED = int(os.environ.get("PLUGRAD_KILLS_SEED", "1"))
STARTS_WITHIN_S = 4.0
"""One process, here; several take about three times as long."""


@dataclass
class Tally:
    """What has happened."""

    kills: int = 0
    writing: int = 0
    pruning: int = 0
    resumes: int = 0
    runs: int = 0

    def see(self, run):
        """Count a kill, and what it interrupted."""
        whole, unfinished = checkpoints_in(run)
        self.kills += 1
        # What is being removed has ".old" in its name, and the next checkpoint's does not.
        self.pruning += any(".old" in name for name in unfinished) or len(whole) > 2
        self.writing += any(".old" not in name for name in unfinished)


def at_any_moment(process, chance):
    """While it starts, most of the time."""
    ends = process.began + chance.uniform(0, STARTS_WITHIN_S if isinstance(process, Fork) else 3 * STARTS_WITHIN_S)
    return process.wait_for(lambda: time.monotonic() > ends)


def between_two_steps_or_in_one(process, chance):
    """Some time after it has written a checkpoint."""
    before = newest_in(process.run)
    if not process.wait_for(lambda: newest_in(process.run) > before):
        return False
    ends = time.monotonic() + chance.uniform(0, 1)
    return process.wait_for(lambda: time.monotonic() > ends)


def while_it_writes(process, chance):
    """When it has begun to write one."""
    before, later = newest_in(process.run), chance.randint(0, 3)
    passed = 0 if not before else int(before.removeprefix("step_"))
    first = f".step_{min(passed + 1 + later, STEPS):06d}"
    if not process.wait_for(lambda: any(name >= first and ".old" not in name for name in checkpoints_in(process.run)[1])):
        return False
    ends = time.monotonic() + chance.uniform(0, 0.02)
    return process.wait_for(lambda: time.monotonic() > ends)


def while_it_prunes(process, chance):
    """When it removes one, or is about to."""
    before = newest_in(process.run)

    def prunes():
        whole, unfinished = checkpoints_in(process.run)
        return bool(whole) and whole[-1] > before and (len(whole) > 2 or any(".old" in name for name in unfinished))

    return process.wait_for(prunes)


MOMENTS = (at_any_moment, between_two_steps_or_in_one, while_it_writes, while_it_prunes)


def killed_again_and_again(start, run, chance, tally, num_kills, num_processes):
    """Go on with a run until it is complete, and kill it on the way."""
    while True:
        tally.resumes += run.exists()
        process = start(run, "--resume", num_processes=num_processes)
        moment = chance.choice(MOMENTS) if tally.kills < num_kills else None
        if moment is None or not moment(process, chance):
            assert process.wait() == 0, process.said
            return
        # Half of the kills of several processes hit the launcher alone, whose ranks have to end by themselves.
        process.kill(spares_ranks=num_processes > 1 and chance.random() < 0.5)
        tally.see(run)


@pytest.mark.parametrize(
    "num_processes", [pytest.param(1, marks=pytest.mark.quick_fault), 2], ids=["one process", "two processes"]
)
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(
    start, uninterrupted, tmp_path, num_kills, table, num_processes
):
    wanted, chance, tally = uninterrupted(num_processes), random.Random(SEED), Tally()
    differing = []
    while tally.runs == 0 or tally.kills < num_kills:
        run = tmp_path / f"run_{tally.runs}"
        killed_again_and_again(start, run, chance, tally, num_kills, num_processes)
        tally.runs += 1
        if outcome(run) != wanted:
            differing.append(run)
        whole, unfinished = checkpoints_in(run)
        assert (whole, unfinished) == ([f"step_{STEPS - 1:06d}", f"step_{STEPS:06d}"], [])
    equal = f"{tally.runs - len(differing)} of {tally.runs}"
    table.append((num_processes, tally.kills, tally.writing, tally.pruning, tally.resumes, tally.runs, equal))
    assert not differing
    if num_kills >= 50:
        assert tally.writing + tally.pruning >= 10
