"""Send completion requests to several servers: balanced, limited in number, and retried on another server on failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import httpx
from anyio import to_thread
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import EngineError
from plugrad.rollout.engine import Completion
from plugrad.rollout.servers.answer import AnswerTooLong, read_answer
from plugrad.rollout.servers.api_key import access_denied
from plugrad.rollout.servers.balancer import Balancer, ServerState
from plugrad.rollout.servers.request import CompletionRequest
from plugrad.rollout.servers.response import InvalidResponse, NotYetSent, WrongWeights, parse_response
from plugrad.rollout.servers.server import (
    BYPASS_PROXY,
    CONNECT_TIMEOUT_S,
    DENIED_STATUSES,
    ServerError,
    describe_error,
    describe_response,
    excerpt,
)
from plugrad.rollout.servers.weight_labels import WeightLabels

GENERATE_PATH = "/inference/v1/generate"
INVALID_REQUEST_STATUSES = (400, 404, 405, 413, 422)
"""The request itself is wrong, so a retry would fail too."""
LONGEST_LAG_S = 10.0
"""That another rank waits for news of an update which the main rank has begun: it is a few instructions behind."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0

Revive = Callable[[str, int, bool], None]
"""`(address, version, may_load)`: check that a server has weights of at least `version`, or have it load them.

Raises `ServerError` if it does not have them.
"""


class AttemptFailed(Exception):
    """One attempt failed; another may succeed."""


class Client:
    """Completes prompts with the servers of a balancer. Everything here runs in one event loop."""

    def __init__(
        self,
        balancer: Balancer,
        labels: WeightLabels,
        table: ServerTable,
        headers: Mapping[str, str],
        revive: Revive,
        *,
        may_lag: bool = False,
    ) -> None:
        """Create a client.

        Args:
            balancer: the servers.
            labels: the run's weight labels.
            table: `[rollout.server]`.
            headers: of every request.
            revive: brings a server back.
            may_lag: whether another rank sends the weights, and may be ahead of this one.
        """
        self._balancer, self._labels, self._table, self._revive = balancer, labels, table, revive
        self._may_lag = may_lag
        self.version: int | None = None
        """Every active server has weights of this version or newer."""
        self._newest: int | None = None
        self._announced = asyncio.Event()
        limits = httpx.Limits(max_connections=table.concurrency, max_keepalive_connections=table.concurrency)
        timeout = httpx.Timeout(table.timeout_s, connect=min(CONNECT_TIMEOUT_S, table.timeout_s), pool=None)
        self._http = httpx.AsyncClient(headers=dict(headers), limits=limits, timeout=timeout, mounts=BYPASS_PROXY)
        self._slots = asyncio.Semaphore(table.concurrency)
        self._reviving = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()

    async def complete(self, requests: Sequence[CompletionRequest]) -> list[list[Completion]]:
        """Return the completions of each request, in order. Each group comes from exactly one response.

        Raises:
            EngineError: a server rejects a request as invalid, or a request fails on every allowed attempt.
        """
        if self.version is None:
            raise EngineError(
                "completions were requested before the servers received the policy's weights. Call update_weights first."
            )
        self._start_reviving(self.version)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._complete(request)) for request in requests]
        except ExceptionGroup as errors:
            # The first error is enough: the other requests were cancelled.
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        return [task.result() for task in tasks]

    async def announce(self, version: int) -> None:
        """Note that weights of this version are about to be sent: from now on, a server may sample with them."""
        self._newest = version
        self._announced.set()
        self._announced = asyncio.Event()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _complete(self, request: CompletionRequest) -> list[Completion]:
        tried: set[str] = set()
        attempts = AsyncRetrying(
            stop=stop_after_attempt(self._table.retries + 1),
            wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
            retry=retry_if_exception_type(AttemptFailed),
            reraise=True,
        )
        try:
            return await attempts(self._attempt, request, tried)
        except AttemptFailed as error:
            count = self._table.retries + 1
            raise self._balancer.all_failed(
                f"a request for {request} failed after {count} attempt{'s' * (count > 1)}: no server returned a usable "
                "response. Last error of each server:"
            ) from error

    async def _attempt(self, request: CompletionRequest, tried: set[str]) -> list[Completion]:
        async with self._slots:
            server = self._balancer.pick(tried) or await self._revive_one()
            server.num_in_flight += 1
            try:
                completions = await self._send(server, request)
            except AttemptFailed:
                tried.add(server.address)
                raise
            finally:
                server.num_in_flight -= 1
        self._balancer.record_success(server)
        return completions

    async def _send(self, server: ServerState, request: CompletionRequest) -> list[Completion]:
        oldest = self.version
        assert oldest is not None
        url, body = f"{server.address}{GENERATE_PATH}", request.body(salt=self._labels.label_of(oldest))
        try:
            # httpx limits the time between two chunks; this limits the whole response.
            async with asyncio.timeout(self._table.timeout_s), self._http.stream("POST", url, json=body) as stream:
                response = await read_answer(stream, request.max_bytes)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._balancer.deactivate(server, describe_error(error))
            raise AttemptFailed(describe_error(error)) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise self._count_failure(server, f"no response within {self._table.timeout_s:g} s") from error
        except AnswerTooLong as error:
            raise self._count_failure(server, str(error)) from error
        except httpx.HTTPError as error:
            raise self._count_failure(server, describe_error(error)) from error
        self._check_status(response, server, request)
        try:
            return await self._parsed(response.content, request, oldest)
        except WrongWeights as error:
            self._balancer.deactivate(server, str(error))
            raise AttemptFailed(str(error)) from error
        except InvalidResponse as error:
            raise self._count_failure(server, f"{error}: {excerpt(response.text)}") from error

    async def _parsed(self, content: bytes, request: CompletionRequest, oldest: int) -> list[Completion]:
        """Parse a response. The rank that sends the weights may be ahead of this one, so newer ones are waited for."""
        try:
            return parse_response(content, request, self._labels, oldest, self._newest_sent)
        except NotYetSent as error:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_LAG_S):
                    while self._may_lag and self._newest_sent < error.version:
                        await self._announced.wait()
        return parse_response(content, request, self._labels, oldest, self._newest_sent)

    @property
    def _newest_sent(self) -> int:
        assert self.version is not None
        return self.version if self._newest is None else max(self.version, self._newest)

    def _check_status(self, response: httpx.Response, server: ServerState, request: CompletionRequest) -> None:
        if response.is_success:
            return
        reason = describe_response(response)
        if response.status_code in DENIED_STATUSES:
            raise access_denied(server.address, reason, self._table)
        if response.status_code in INVALID_REQUEST_STATUSES:
            raise EngineError(
                f"the server {server.address} rejected a request for {request} with {reason}. Retrying cannot help; its "
                "log may say more."
            )
        raise self._count_failure(server, f"it returned {reason}")

    def _count_failure(self, server: ServerState, error: str) -> AttemptFailed:
        self._balancer.record_failure(server, error)
        return AttemptFailed(error)

    def _start_reviving(self, version: int) -> None:
        """Check in the background whether an unreachable server is back with the weights that it had."""
        if self._balancer.inactive and not self._background:
            task = asyncio.create_task(self._revive_inactive(version, may_load=False))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _revive_one(self) -> ServerState:
        """Return a revived server when none is active. It may have to load the weights again."""
        async with self._reviving:
            if not self._balancer.active:
                assert self.version is not None
                await self._revive_inactive(self.version, may_load=True)
        server = self._balancer.pick(())
        if server is None:
            raise AttemptFailed("no server is available")
        return server

    async def _revive_inactive(self, version: int, *, may_load: bool) -> None:
        await asyncio.gather(*(self._try_to_revive(server, version, may_load) for server in self._balancer.inactive))

    async def _try_to_revive(self, server: ServerState, version: int, may_load: bool) -> None:
        revive = partial(self._revive, server.address, version, may_load)
        try:
            # Abandoned on cancellation: closing the engine must not wait for a server that does not respond.
            await to_thread.run_sync(revive, abandon_on_cancel=True)
        except ServerError as error:
            server.last_error = str(error)
        else:
            # A weight update in the meantime has already set the state of every server.
            if self.version == version:
                self._balancer.activate(server)
