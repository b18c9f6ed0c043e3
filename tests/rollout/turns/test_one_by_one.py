"""Plays that go on by themselves: none waits for another, and an engine that fails ends all."""

import asyncio
from concurrent.futures import Future

import pytest
from counting_plays import answer, counts_to

from plugrad.errors import EngineError
from plugrad.rollout.engine import Completion
from plugrad.rollout.turns.one_by_one import OneByOne
from plugrad.rollout.turns.seats import Table


class Engine:
    """Answers at once with the next number; a play in `held` is not, until another asks for reply `until`."""

    def __init__(self, held=(), until=(None, None)):
        self.asked, self.futures, self._held, self._until = [], [], held, until

    def __call__(self, asked):
        future = Future()
        self.asked.append((asked.play, asked.number))
        self.futures.append(future)
        future.completion = answer(asked)
        if asked.play not in self._held:
            future.set_result(future.completion)
        if (asked.play, asked.number) == self._until:
            self.answer_held()
        return future

    def answer_held(self):
        for each in self.futures:
            if not each.done():
                each.set_result(each.completion)


async def asks_once(ask):
    return await ask([0], 4)


def run(*plays, engine=None, time_limit_s=60.0):
    engine = engine or Engine()
    return OneByOne(engine, Table(time_limit_s)).run(plays), engine


def test_no_play_waits_for_another():
    found, engine = run(asks_once, counts_to(3), engine=Engine(held={0}, until=(1, 2)))
    assert found == [Completion([1], [0.0], False, [0]), [0, 1, 2, 3]]
    assert engine.asked == [(0, 0), (1, 0), (1, 1), (1, 2)]


def test_a_play_that_waits_for_the_engine_has_all_the_time_that_this_takes():
    engine = Engine(held={0})

    async def hangs(ask):
        await ask([0], 4)
        try:
            await asyncio.Event().wait()
        finally:
            engine.answer_held()

    found, _ = run(asks_once, hangs, engine=engine, time_limit_s=0.05)
    assert found[0] == Completion([1], [0.0], False, [0])


def test_a_request_that_nobody_waits_for_is_cancelled():
    async def gives_up(ask):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ask([0], 4)
        return "gave up"

    found, engine = run(gives_up, engine=Engine(held={0}))
    assert found == ["gave up"]
    assert engine.futures[0].cancelled()


@pytest.mark.parametrize("how", ["raises", "fails", "is closed"])
def test_an_engine_that_fails_ends_all(how):
    ended = []

    async def play(ask):
        try:
            await ask([1], 4)
        except Exception:
            pytest.fail("the engine's failures are not for plays")
        finally:
            ended.append(True)

    def submit(asked):
        future = Future()
        if how == "raises":
            raise EngineError("no engine")
        if how == "fails":
            future.set_exception(EngineError("no engine"))
        elif asked.play:
            future.cancel()
        return future

    with pytest.raises(EngineError, match=r"no engine|was closed"):
        OneByOne(submit, Table(60.0)).run([play, play])
    assert ended == [True, True]
