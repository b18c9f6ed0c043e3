"""Every play goes on by itself: a reply is asked for as soon as the play wants one, and no play waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from plugrad.errors import EngineError
from plugrad.rollout.engine import Completion
from plugrad.rollout.turns.seats import Ask, Asked, Play, Seat, Table

Submit = Callable[[Asked], Future[Completion]]


class OneByOne:
    """Runs plays with an engine that takes requests one by one, and answers each when it can."""

    def __init__(self, submit: Submit, table: Table) -> None:
        """Prepare to run plays.

        Args:
            submit: sends a request; it does not block. A future that is cancelled cancels its request.
            table: where they take their seats.
        """
        self._submit, self._table = submit, table

    def run(self, plays: Sequence[Play]) -> list[Any]:
        """Return what each play returned, or the exception that ended it.

        Raises:
            Exception: what the engine raised. All plays are cancelled.
        """
        return asyncio.run(self._run(plays))

    async def _run(self, plays: Sequence[Play]) -> list[Any]:
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            return await self._table.seated(plays, self._asks, self._until_done)
        finally:
            self._broken.cancel()

    def _asks(self, seat: Seat) -> Ask:
        async def ask(ids: list[int], max_new_tokens: int) -> Completion:
            asked = seat.asks(ids, max_new_tokens)
            try:
                request = asyncio.wrap_future(self._submit(asked))
                try:
                    await asyncio.wait([request])
                finally:
                    request.cancel()
                return self._answer(request)
            except Exception as error:
                # Not the play's to handle: without an engine, there is no run.
                if not self._broken.done():
                    self._broken.set_exception(error)
                return await asyncio.Future()
            finally:
                seat.gets()

        return ask

    @staticmethod
    def _answer(request: asyncio.Future[Completion]) -> Completion:
        if request.cancelled():
            raise EngineError("the engine was closed while it answered.")
        return request.result()

    async def _until_done(self, seats: Sequence[Seat]) -> None:
        if not seats:
            return
        all_done = asyncio.gather(*(seat.task for seat in seats), return_exceptions=True)
        try:
            either: list[asyncio.Future[Any]] = [all_done, self._broken]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            all_done.cancel()
        if self._broken.done():
            self._broken.result()
