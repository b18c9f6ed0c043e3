"""Plays that count, and the answers that they are given: what the tests of both ways to run plays share."""

import asyncio

from plugrad.rollout.engine import Completion


def answer(asked):
    """Return the number after the last one."""
    return Completion([asked.ids[-1] + 1], [0.0], False, [0])


def counts_to(goal, pause=0.0):
    """Return a play that asks for numbers up to a goal."""

    async def play(ask):
        ids = [0]
        while ids[-1] < goal:
            await asyncio.sleep(pause)
            ids += (await ask(ids, 4)).ids
        return ids

    return play
