"""Plays that fail or hang end alone, whether they wait for one another or go on by themselves."""

import asyncio
from concurrent.futures import Future

import pytest
from counting_plays import answer, counts_to

from plugrad.rollout.turns.blocked_plays import PlayTimeout
from plugrad.rollout.turns.lockstep import LockStep
from plugrad.rollout.turns.one_by_one import OneByOne
from plugrad.rollout.turns.seats import Table


def in_lockstep(table):
    return LockStep(lambda asked: list(map(answer, asked)), table)


def one_by_one(table):
    def submit(asked):
        future = Future()
        future.set_result(answer(asked))
        return future

    return OneByOne(submit, table)


both = pytest.mark.parametrize("made", [in_lockstep, one_by_one])


@both
def test_an_error_ends_its_play_alone(made):
    async def fails(ask):
        await ask([1], 4)
        raise ValueError("broken")

    found = made(Table(60.0)).run([fails, counts_to(2)])
    assert isinstance(found[0], ValueError)
    assert found[1] == [0, 1, 2]


@both
def test_a_play_that_hangs_is_ended_and_the_others_go_on(made):
    async def hangs(ask):
        await ask([1], 4)
        await asyncio.Event().wait()

    found = made(Table(0.05)).run([hangs, counts_to(2)])
    assert isinstance(found[0], PlayTimeout)
    assert found[1] == [0, 1, 2]


@both
def test_no_play_needs_no_engine(made):
    assert made(Table(60.0)).run([]) == []
