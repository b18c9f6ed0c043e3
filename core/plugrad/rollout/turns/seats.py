"""The plays of a batch while they run: what each asks for, and how long it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from plugrad.rollout.engine import Completion
from plugrad.rollout.turns.blocked_plays import PlayTimeout, blocked_plays_end
from plugrad.rollout.turns.play_threads import PlayThreads


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


@dataclass
class Seat:
    """One play, and its time."""

    number: int
    time_left: float
    task: asyncio.Task[Any] = field(init=False)
    num_asked: int = 0
    num_waiting: int = 0
    """Replies that it has asked for and not got. While there are any, its time stands still."""
    late: bool = False
    _watch: asyncio.TimerHandle | None = None

    def asks(self, ids: list[int], max_new_tokens: int) -> Asked:
        """Note that it waits for one more reply; return which."""
        asked = Asked(ids, max_new_tokens, self.number, self.num_asked)
        self.num_asked += 1
        self.num_waiting += 1
        self.stop_clock()
        return asked

    def gets(self) -> None:
        """Note that it got a reply."""
        self.num_waiting -= 1
        if not self.num_waiting and not self.task.done():
            self.start_clock()

    def start_clock(self) -> None:
        """Limit the time until the play asks for the next reply, or ends."""
        self._watch = asyncio.get_running_loop().call_later(self.time_left, self._expire)

    def stop_clock(self) -> None:
        """Keep the time that is left."""
        if self._watch is not None:
            self._watch.cancel()
            self.time_left = max(0.0, self._watch.when() - asyncio.get_running_loop().time())
            self._watch = None

    def gets_back(self, seconds: float) -> None:
        """Add to the time that is left, if it runs."""
        if self._watch is not None:
            self.stop_clock()
            self.time_left += seconds
            self.start_clock()

    def outcome(self) -> Any:
        """Return what the play returned, or the exception that ended it."""
        if self.task.cancelled():
            return PlayTimeout() if self.late else asyncio.CancelledError()
        return self.task.exception() or self.task.result()

    def _expire(self) -> None:
        self.late = True
        self.task.cancel()


@dataclass(frozen=True)
class Table:
    """Where plays take their seats."""

    time_limit_s: float
    """For the environment's part of a play, in all."""
    at_end: Callable[[], Awaitable[None]] | None = None
    """Called when all plays have ended, in their event loop."""

    async def seated(
        self,
        plays: Sequence[Play],
        asks: Callable[[Seat], Ask],
        until_done: Callable[[Sequence[Seat]], Awaitable[None]],
    ) -> list[Any]:
        """Run the plays, and return what each returned, or the exception that ended it.

        Args:
            plays: the plays.
            asks: returns how the play of a seat asks for replies.
            until_done: answers them until every play has ended.

        Raises:
            Exception: what `until_done` raised. All plays are cancelled.
        """
        asyncio.get_running_loop().set_default_executor(PlayThreads())
        seats = [Seat(number, self.time_limit_s) for number in range(len(plays))]
        for seat, play in zip(seats, plays, strict=True):
            seat.task = asyncio.create_task(play(asks(seat)), name=f"play {seat.number}")
            seat.task.add_done_callback(lambda _, seat=seat: seat.stop_clock())
            seat.start_clock()

        def give_back(seconds: float) -> None:
            for seat in seats:
                seat.gets_back(seconds)

        try:
            with blocked_plays_end(self.time_limit_s, give_back):
                await until_done(seats)
        finally:
            await self._end(seats)
        return [seat.outcome() for seat in seats]

    async def _end(self, seats: Sequence[Seat]) -> None:
        for seat in seats:
            seat.stop_clock()
            seat.task.cancel()
        await asyncio.gather(*(seat.task for seat in seats), return_exceptions=True)
        if self.at_end is not None:
            await self.at_end()
