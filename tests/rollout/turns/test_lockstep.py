"""Plays wait for one another, and the engine answers them together."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest
from counting_plays import answer, counts_to

from plugrad.rollout.turns.blocked_plays import PlayTimeout
from plugrad.rollout.turns.lockstep import LockStep
from plugrad.rollout.turns.seats import Table


class Engine:
    """Answers with the next number, and keeps what it was asked together."""

    def __init__(self):
        self.calls = []

    def __call__(self, asked):
        self.calls.append([(each.play, each.number) for each in asked])
        return [answer(each) for each in asked]


def run(*plays, time_limit_s=60.0):
    engine = Engine()
    return LockStep(engine, Table(time_limit_s)).run(plays), engine.calls


def test_all_that_wait_are_answered_at_once_however_long_each_takes():
    found, calls = run(counts_to(2, pause=0.02), counts_to(3), counts_to(1, pause=0.01))
    assert found == [[0, 1, 2], [0, 1, 2, 3], [0, 1]]
    assert calls == [[(0, 0), (1, 0), (2, 0)], [(0, 1), (1, 1)], [(1, 2)]]


def test_several_replies_of_one_play_are_answered_at_once():
    async def play(ask):
        return [completion.ids for completion in await asyncio.gather(ask([1], 4), ask([5], 4))]

    found, calls = run(play)
    assert found == [[[2], [6]]]
    assert calls == [[(0, 0), (0, 1)]]


def test_a_play_that_blocks_the_others_is_ended():
    async def blocks(ask):
        await ask([1], 4)
        time.sleep(3600)

    async def blocks_in_another_task(ask):
        await asyncio.gather(ask([1], 4), blocks(ask))

    async def blocks_in_a_process(ask):
        subprocess.run([sys.executable, "-c", "import time; time.sleep(3600)"], check=True)

    found, _ = run(blocks, blocks_in_another_task, blocks_in_a_process, counts_to(2), time_limit_s=0.2)
    assert [type(each) for each in found[:3]] == [PlayTimeout] * 3
    assert found[3] == [0, 1, 2]


def test_a_thread_that_hangs_ends_its_play_and_holds_nothing_up():
    free = threading.Event()

    async def hangs(ask):
        await asyncio.to_thread(free.wait)

    found, _ = run(hangs, counts_to(2), time_limit_s=0.05)
    assert isinstance(found[0], PlayTimeout)
    assert found[1] == [0, 1, 2]
    [thread] = [each for each in threading.enumerate() if each.name == "plugrad play"]
    assert thread.daemon
    free.set()
    thread.join()


def test_more_threads_than_any_pool_has_wait_for_one_another():
    barrier = threading.Barrier(100)

    async def waits(ask):
        return await asyncio.to_thread(barrier.wait, 60)

    found, _ = run(*[waits] * 100)
    assert sorted(found) == list(range(100))


def test_an_error_of_the_engine_ends_all():
    ended = []

    async def play(ask):
        try:
            await ask([1], 4)
        finally:
            ended.append(True)

    def generate(asked):
        raise RuntimeError("no engine")

    with pytest.raises(RuntimeError, match="no engine"):
        LockStep(generate, Table(60.0)).run([play, play])
    assert ended == [True, True]
