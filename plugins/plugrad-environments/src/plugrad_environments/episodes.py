"""Episodes of `verifiers`, in an event loop of their own: what an environment serves lasts from one batch to the next."""

from __future__ import annotations

import asyncio
import atexit
import threading
from typing import Any

OVER_AT_EXIT_S = 10.0
MOST_BEFORE_ANEW = 64
"""Episodes after which a server of `verifiers` is begun anew: it keeps a client for every address that it was given."""
NO_KEY = "PLUGRAD_POLICY_KEY"
"""Names no variable that anybody sets: the policy needs no key."""
MODEL = "policy"


class Episodes:
    """Plays episodes of one environment of `verifiers`. A reward function that blocks delays no other environment."""

    def __init__(self, environment: Any) -> None:
        """Prepare. The thread begins with the first episode."""
        self._environment = environment
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving: _Serving | None = None
        self._num_active = self._num_played = 0

    async def play(self, task: Any, base_url: str) -> Any:
        """Return the episode of a task with the policy at an address. To cancel it ends it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._episode(task, base_url), self._running()))

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="verifiers", daemon=True).start()
            atexit.register(self._end)
        return self._loop

    def _end(self) -> None:
        assert self._loop is not None
        try:
            asyncio.run_coroutine_threadsafe(self._stop_serving(), self._loop).result(OVER_AT_EXIT_S)
        except Exception:
            # Servers of tools end with the process that began them.
            return

    async def _episode(self, task: Any, base_url: str) -> Any:
        from verifiers import v1 as vf

        self._num_active += 1
        try:
            if self._serving is None:
                self._serving = _Serving(self._environment)
            await self._serving.ready()
            client = vf.EvalClientConfig(base_url=base_url, api_key_var=NO_KEY)
            [slot] = self._environment.slots(task)
            return await self._environment.run_slot(slot, vf.ModelContext(MODEL, client))
        finally:
            self._num_active -= 1
            self._num_played += 1
            if self._num_active == 0 and self._num_played >= MOST_BEFORE_ANEW:
                await self._stop_serving()

    async def _stop_serving(self) -> None:
        serving, self._serving, self._num_played = self._serving, None, 0
        if serving is not None:
            await serving.stop()


class _Serving:
    """The servers of an environment. One task begins and ends them, as their context managers ask for."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._over = asyncio.Event()
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._serve())

    async def ready(self) -> None:
        """Wait until they serve.

        Raises:
            Exception: one of them cannot be started.
        """
        await asyncio.shield(self._begun)

    async def stop(self) -> None:
        self._over.set()
        await asyncio.wait([self._task])

    async def _serve(self) -> None:
        try:
            async with self._environment.serving():
                self._begun.set_result(None)
                await self._over.wait()
        except Exception as error:
            if not self._begun.done():
                self._begun.set_exception(error)
