"""Requests to several servers: spread over them, bounded in number, and given to another where one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import EngineError
from plugrad.rollout.engine import Completion
from plugrad.rollout.servers.api_key import denied
from plugrad.rollout.servers.balancer import Place, Rotation
from plugrad.rollout.servers.request import Asked
from plugrad.rollout.servers.response import BadAnswer, ForeignWeights, read_answer
from plugrad.rollout.servers.server import CONNECT_TIMEOUT_S, DENIED, DIRECT, ServerError, excerpt, said_by, said_in
from plugrad.rollout.servers.weight_labels import Labels

PATH = "/inference/v1/generate"
OURS = (400, 404, 405, 413, 422)
"""Statuses that say that the request is wrong: it would be as wrong the next time."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0

Revive = Callable[[str, int, bool], None]
"""`(address, version, may_load)`: find that a server has weights of at least that version, or have it load them."""


class Refused(Exception):
    """An attempt failed, and another may do better."""


class Client:
    """Completes prompts with the servers of a rotation. Everything here runs in one event loop."""

    def __init__(
        self, rotation: Rotation, labels: Labels, table: ServerTable, headers: Mapping[str, str], revive: Revive
    ) -> None:
        self._rotation, self._labels, self._table, self._revive = rotation, labels, table, revive
        self.version: int | None = None
        """Of the weights that every server in the rotation has, or newer ones."""
        limits = httpx.Limits(max_connections=table.concurrency, max_keepalive_connections=table.concurrency)
        timeout = httpx.Timeout(table.timeout_s, connect=min(CONNECT_TIMEOUT_S, table.timeout_s), pool=None)
        self._http = httpx.AsyncClient(headers=dict(headers), limits=limits, timeout=timeout, mounts=DIRECT)
        self._slots = asyncio.Semaphore(table.concurrency)
        self._reviving = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()

    async def complete(self, requests: Sequence[Asked]) -> list[list[Completion]]:
        """Return the completions of each request, in order. Each group comes from exactly one answer.

        Raises:
            EngineError: a request is refused for what it asks, or by every server for as often as it may be tried.
        """
        if self.version is None:
            raise EngineError("the servers were asked for completions before they were given the policy's weights.")
        self._look_after_those_outside(self.version)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._complete(asked)) for asked in requests]
        except ExceptionGroup as errors:
            # One says it all, and the others were cancelled.
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        return [task.result() for task in tasks]

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _complete(self, asked: Asked) -> list[Completion]:
        tried: dict[str, str] = {}
        attempts = AsyncRetrying(
            stop=stop_after_attempt(self._table.retries + 1),
            wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
            retry=retry_if_exception_type(Refused),
            reraise=True,
        )
        try:
            return await attempts(self._attempt, asked, tried)
        except Refused as error:
            times = self._table.retries + 1
            raise self._rotation.nobody_answers(
                f"a request for {asked} was tried {times} time{'s' * (times > 1)}, and no server gave an answer that can be "
                "used. What each of them said last:"
            ) from error

    async def _attempt(self, asked: Asked, tried: dict[str, str]) -> list[Completion]:
        async with self._slots:
            place = self._rotation.pick(tried) or await self._revived()
            place.num_in_flight += 1
            try:
                completions = await self._ask(place, asked)
            except Refused as error:
                tried[place.address] = str(error)
                raise
            finally:
                place.num_in_flight -= 1
        self._rotation.succeeded(place)
        return completions

    async def _ask(self, place: Place, asked: Asked) -> list[Completion]:
        oldest = self.version
        assert oldest is not None
        try:
            # httpx's own limit is for each piece of an answer; this is for the whole of it.
            async with asyncio.timeout(self._table.timeout_s):
                response = await self._http.post(f"{place.address}{PATH}", json=asked.body(self._labels.of(oldest)))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._rotation.out(place, said_by(error))
            raise Refused(said_by(error)) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise self._failed(place, f"it has not answered within {self._table.timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise self._failed(place, said_by(error)) from error
        self._check_status(response, place, asked)
        try:
            return read_answer(response.content, asked, self._labels, oldest)
        except ForeignWeights as error:
            self._rotation.out(place, str(error))
            raise Refused(str(error)) from error
        except BadAnswer as error:
            raise self._failed(place, f"{error}: {excerpt(response.text)}") from error

    def _check_status(self, response: httpx.Response, place: Place, asked: Asked) -> None:
        if response.is_success:
            return
        if response.status_code in DENIED:
            raise denied(place.address, said_in(response), self._table)
        if response.status_code in OURS:
            raise EngineError(f"the server {place.address} refuses a request for {asked} with {said_in(response)}")
        raise self._failed(place, f"it answered with {said_in(response)}")

    def _failed(self, place: Place, said: str) -> Refused:
        self._rotation.failed(place, said)
        return Refused(said)

    def _look_after_those_outside(self, version: int) -> None:
        """See, beside the requests, whether a server that could not be reached is back with the weights that it had."""
        if self._rotation.outside and not self._background:
            task = asyncio.create_task(self._revive_those_outside(version, may_load=False))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _revived(self) -> Place:
        """Return a server that is back, where none was left; it may have to load the weights again."""
        async with self._reviving:
            if not self._rotation.inside:
                assert self.version is not None
                await self._revive_those_outside(self.version, may_load=True)
        place = self._rotation.pick(())
        if place is None:
            raise Refused("no server is left")
        return place

    async def _revive_those_outside(self, version: int, *, may_load: bool) -> None:
        await asyncio.gather(*(self._try_to_revive(place, version, may_load) for place in self._rotation.outside))

    async def _try_to_revive(self, place: Place, version: int, may_load: bool) -> None:
        try:
            await asyncio.to_thread(self._revive, place.address, version, may_load)
        except ServerError as error:
            place.last_said = str(error)
        else:
            # An update that came in between has told of every server itself.
            if self.version == version:
                self._rotation.back(place)
