"""Plays that wait for a reply are answered together, so that an engine generates for all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from plugrad.rollout.engine import Completion
from plugrad.rollout.turns.seats import Ask, Asked, Play, Seat, Table

Generate = Callable[[list[Asked]], list[Completion]]


class LockStep:
    """Runs plays until each of them waits for a reply or has ended, then lets the engine answer all that wait.

    So the engine sees the same requests in the same order whenever the environment does the same, however long it takes.
    """

    def __init__(self, generate: Generate, table: Table) -> None:
        """Prepare to run plays.

        Args:
            generate: answers requests; it blocks.
            table: where they take their seats.
        """
        self._generate, self._table = generate, table
        self._pending: list[tuple[Asked, Seat, asyncio.Future[Completion]]] = []

    def run(self, plays: Sequence[Play]) -> list[Any]:
        """Return what each play returned, or the exception that ended it.

        Raises:
            Exception: what the engine raised. All plays are cancelled.
        """
        return asyncio.run(self._run(plays))

    async def _run(self, plays: Sequence[Play]) -> list[Any]:
        self._changed = asyncio.Event()
        return await self._table.seated(plays, self._asks, self._until_done)

    def _asks(self, seat: Seat) -> Ask:
        async def ask(ids: list[int], max_new_tokens: int) -> Completion:
            future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
            self._pending.append((seat.asks(ids, max_new_tokens), seat, future))
            self._changed.set()
            return await future

        return ask

    async def _until_done(self, seats: Sequence[Seat]) -> None:
        for seat in seats:
            seat.task.add_done_callback(lambda _: self._changed.set())
        while not all(seat.task.done() for seat in seats):
            await self._until_all_wait(seats)
            self._answer()

    async def _until_all_wait(self, seats: Sequence[Seat]) -> None:
        """Wait until the environment has nothing to do."""
        while True:
            # A play may ask for several replies at once: its other tasks get a turn.
            await asyncio.sleep(0)
            if all(seat.task.done() or seat.num_waiting for seat in seats):
                return
            self._changed.clear()
            await self._changed.wait()

    def _answer(self) -> None:
        # By play: those that asked first may be those that the environment was quickest with.
        asking = sorted(self._pending, key=lambda each: (each[0].play, each[0].number))
        self._pending = []
        waiting = [each for each in asking if not each[2].done()]
        if waiting:
            completions = self._generate([asked for asked, *_ in waiting])
            for (*_, future), completion in zip(waiting, completions, strict=True):
                future.set_result(completion)
        for _, seat, _ in asking:
            seat.gets()
