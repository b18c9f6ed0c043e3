"""Plays that wait for a reply are answered together, so that an engine generates for all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from plugrad.rollout.engine import Completion

SPARE_THREADS = 8


@dataclass(frozen=True)
class Asked:
    """What a play asks to be continued."""

    ids: list[int]
    """The tokens so far."""
    max_new_tokens: int
    play: int
    """The place of the play among all of a batch."""
    number: int
    """How many replies the play had asked for before."""


Ask = Callable[[list[int], int], Awaitable[Completion]]
"""Continues tokens by at most so many."""
Play = Callable[[Ask], Coroutine[Any, Any, Any]]
Generate = Callable[[list[Asked]], list[Completion]]


class PlayTimeout(Exception):
    """The environment's part of a play took longer than it may."""


@dataclass
class _Seat:
    """One play, and what it waits for."""

    number: int
    time_left: float
    task: asyncio.Task[Any] = field(init=False)
    pending: list[tuple[Asked, asyncio.Future[Completion]]] = field(default_factory=list)
    num_asked: int = 0
    late: bool = False
    _watch: asyncio.TimerHandle | None = None

    @property
    def is_done_or_waits(self) -> bool:
        return self.task.done() or bool(self.pending)

    def start_clock(self) -> None:
        """Limit the time until the play asks for the next reply, or ends."""
        self._watch = asyncio.get_running_loop().call_later(self.time_left, self._expire)

    def stop_clock(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self.time_left = max(0.0, self._watch.when() - asyncio.get_running_loop().time())
            self._watch = None

    def _expire(self) -> None:
        self.late = True
        self.task.cancel()


class LockStep:
    """Runs plays until each of them waits for a reply or has ended, then lets the engine answer all that wait.

    So the engine sees the same requests in the same order whenever the environment does the same, however long it takes.
    """

    def __init__(self, generate: Generate, time_limit_s: float, at_end: Callable[[], Awaitable[None]] | None = None) -> None:
        """Prepare to run plays.

        Args:
            generate: answers requests; it blocks.
            time_limit_s: for the environment's part of a play, in all.
            at_end: called when all plays have ended, in their event loop.
        """
        self._generate, self._time_limit_s, self._at_end = generate, time_limit_s, at_end
        self._seats: list[_Seat] = []

    def run(self, plays: Sequence[Play]) -> list[Any]:
        """Return what each play returned, or the exception that ended it.

        Raises:
            Exception: what the engine raised. All plays are cancelled.
        """
        return asyncio.run(self._run(plays))

    async def _run(self, plays: Sequence[Play]) -> list[Any]:
        self._changed = asyncio.Event()
        # Of `asyncio.to_thread`: with fewer threads than plays, those that have one would wait for those that have none.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(len(plays) + SPARE_THREADS))
        self._seats = [_Seat(number, self._time_limit_s) for number in range(len(plays))]
        for seat, play in zip(self._seats, plays, strict=True):
            seat.task = asyncio.create_task(play(self._asks(seat)), name=f"play {seat.number}")
            seat.task.add_done_callback(lambda _: self._changed.set())
            seat.start_clock()
        try:
            while not all(seat.task.done() for seat in self._seats):
                await self._until_all_wait()
                self._answer()
        finally:
            await self._end()
        return [_outcome(seat) for seat in self._seats]

    def _asks(self, seat: _Seat) -> Ask:
        async def ask(ids: list[int], max_new_tokens: int) -> Completion:
            future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
            asked = Asked(ids, max_new_tokens, seat.number, seat.num_asked)
            seat.num_asked += 1
            seat.pending.append((asked, future))
            seat.stop_clock()
            self._changed.set()
            return await future

        return ask

    async def _until_all_wait(self) -> None:
        """Wait until the environment has nothing to do."""
        while True:
            # A play may ask for several replies at once: its other tasks get a turn.
            await asyncio.sleep(0)
            if all(seat.is_done_or_waits for seat in self._seats):
                return
            self._changed.clear()
            await self._changed.wait()

    def _answer(self) -> None:
        waiting = [(seat, asked, future) for seat in self._seats for asked, future in seat.pending if not future.done()]
        for seat in self._seats:
            seat.pending.clear()
        if not waiting:
            return
        completions = self._generate([asked for _, asked, _ in waiting])
        for (_, _, future), completion in zip(waiting, completions, strict=True):
            future.set_result(completion)
        for seat in {seat.number: seat for seat, _, _ in waiting}.values():
            seat.start_clock()

    async def _end(self) -> None:
        for seat in self._seats:
            seat.stop_clock()
            seat.task.cancel()
        await asyncio.gather(*(seat.task for seat in self._seats), return_exceptions=True)
        if self._at_end is not None:
            await self._at_end()


def _outcome(seat: _Seat) -> Any:
    if seat.task.cancelled():
        return PlayTimeout() if seat.late else asyncio.CancelledError()
    return seat.task.exception() or seat.task.result()
