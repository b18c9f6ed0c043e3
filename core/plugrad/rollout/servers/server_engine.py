"""The `vllm-server` engine: vLLM servers complete the prompts and receive the policy's weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from plugrad.config.tables.server_table import ServerTable
from plugrad.rollout.engine import Completion, Prompt, Sampling
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.packages import needed_for_servers, require
from plugrad.rollout.servers.balancer import Balancer
from plugrad.rollout.servers.weight_labels import WeightLabels
from plugrad.rollout.servers.weight_sync import choose_weight_sync
from plugrad.rollout.vllm.cpu import is_cpu

if TYPE_CHECKING:
    from plugrad.rollout.servers.command import ServerCommand
    from plugrad.rollout.servers.request import CompletionRequest
    from plugrad.rollout.servers.server_checks import Requirements, ServerInfo
    from plugrad.rollout.servers.supervisor import Supervisor

logger = logging.getLogger(__name__)

T = TypeVar("T")

ENGINE = "vllm-server"


class ServerEngine:
    """Completes prompts with vLLM servers that are already running, or that it starts and stops itself.

    Every rank has its own, with its own connections to the same servers. Only the main rank starts servers and updates their
    weights. Two threads may call `generate` and `update_weights` at once: requests in flight wait while a server loads new
    weights, and continue with them.
    """

    def __init__(
        self,
        table: ServerTable,
        model: EngineModel,
        *,
        folder: Path,
        on_main: Callable[[Callable[[], T]], T] = lambda act: act(),
        is_main: bool = True,
    ) -> None:
        """Start the servers or connect to running ones, and check that each can complete this run's prompts.

        Args:
            table: the run file's `[rollout.server]`.
            model: the policy's model.
            folder: the run folder, for the servers' logs and for weights on their way to them.
            on_main: runs a function on the main rank while the others wait. All get its result, or its error.
            is_main: whether this is the main rank.

        Raises:
            EngineError: a server cannot be started, reached or used, or a package is missing.
        """
        require(ENGINE, needed_for_servers(table, is_main=is_main))
        from plugrad.rollout.servers.server_checks import Requirements

        self._table, self._stops, self._is_main = table, model.stops, is_main
        self._on_main: Callable[[Callable[[], Any]], Any] = on_main
        self._vocab_size = model.vocab_size
        self._folder = folder.resolve()
        self._supervisor: Supervisor | None = None
        self._updating = Lock()
        self._is_closed = False
        try:
            self._open(Requirements(model, table))
        except BaseException:
            self._stop_servers()
            raise

    @property
    def addresses(self) -> list[str]:
        """The servers' addresses."""
        return list(self._servers)

    @property
    def vllm_plugins(self) -> list[str]:
        """vLLM's own plugins that the servers may load, for the record of a run; "*" for all that are installed."""
        return sorted({plugin for info in self._server_infos for plugin in info.vllm_plugins})

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Sample from softmax(logits / temperature). Each group comes from exactly one server's response.

        Raises:
            EngineError: no server is left, or none returns a usable response.
        """
        from plugrad.rollout.servers.request import requests_for

        requests = requests_for(prompts, sampling, stops=self._stops, vocab_size=self._vocab_size)
        return sampling.with_copies(self._loop.run(partial(self._client.complete, requests)))

    def submit(self, prompt: Prompt, sampling: Sampling) -> Future[Completion]:
        """Ask for one completion. Among all requests at once, as many are under way as `concurrency` allows."""
        from plugrad.rollout.servers.request import requests_for

        requests = requests_for([prompt], sampling, stops=self._stops, vocab_size=self._vocab_size)
        return self._loop.start(partial(self._complete_one, requests))

    async def _complete_one(self, requests: Sequence[CompletionRequest]) -> Completion:
        [[completion]] = await self._client.complete(requests)
        return completion

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Have every server load the weights. Requests in flight continue with them.

        A server that fails receives no requests until it has the weights. A server that the run started and that has exited
        is restarted, and takes part in the next update once it responds. If it was the last one, this waits for it.

        Raises:
            EngineError: no server loaded the weights, or they cannot be written.
        """
        with self._updating:
            if self._supervisor is not None:
                self._supervisor.restart_exited()
            self._loop.run(partial(self._client.announce, version))
            errors = self._weight_sync.send(weights, version)
            if all(errors.values()) and not self._table.addresses:
                errors = self._on_main(lambda: self._resend_to_all(version))
            self._loop.run(partial(self._apply_update, errors, version))
            for address, error in errors.items():
                if error is not None:
                    logger.warning(f"the server {address} did not load the weights of version {version}: {error}")
        if all(errors.values()):
            raise self._balancer.all_failed(f"no server loaded the weights of version {version}:")

    def close(self) -> None:
        """Cancel the requests in flight, remove the weights on their way, and stop the servers that the run started."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._loop.close(self._client.close)
            self._weight_sync.close()
            for server in self._servers.values():
                server.close()
        finally:
            self._stop_servers()

    def _open(self, required: Requirements) -> None:
        from plugrad.rollout.servers.api_key import auth_headers
        from plugrad.rollout.servers.client import Client
        from plugrad.rollout.servers.event_loop import EventLoopThread
        from plugrad.rollout.servers.server import Server

        addresses: list[str] = self._on_main(lambda: self._table.addresses or self._start_servers(required))
        headers = auth_headers(self._table)
        self._servers = {address: Server(address, headers, self._table.timeout_s) for address in addresses}
        self._server_infos: list[ServerInfo] = self._on_main(lambda: self._check_servers(required))
        self._labels: WeightLabels = self._on_main(WeightLabels.fresh)
        self._weight_sync = choose_weight_sync(
            self._table,
            list(self._servers.values()),
            {info.transfer_backend for info in self._server_infos},
            self._labels,
            self._folder,
            on_main=self._on_main,
            is_main=self._is_main,
        )
        self._balancer = Balancer.of(addresses, self._log_hint)
        self._client = Client(self._balancer, self._labels, self._table, headers, self._revive, may_lag=not self._is_main)
        self._loop = EventLoopThread()

    def _start_servers(self, required: Requirements) -> list[str]:
        from plugrad.rollout.servers.command import server_commands
        from plugrad.rollout.servers.supervisor import Supervisor, find_free_addresses

        folder = self._folder / "servers"
        addresses = find_free_addresses(self._table.num_servers)
        commands = server_commands(
            addresses,
            _save_model(required.model, folder / "model"),
            self._table,
            dtype=required.model.dtype_name,
            max_model_len=required.model.max_tokens,
            is_cpu=is_cpu(),
            beside_trainer=True,
            trust_remote_code=required.model.trust_remote_code,
        )
        servers = f"{len(addresses)} vLLM servers" if len(addresses) > 1 else "a vLLM server"
        logger.info(f"starting {servers}; output goes to {folder}.")
        self._supervisor = Supervisor(commands, folder)
        seconds = self._supervisor.wait_until_healthy(self._table.start_timeout_s)
        logger.info(f"started {servers} in {seconds:.0f} s: {', '.join(addresses)}.")
        self._limit_trainer_threads(commands)
        return addresses

    def _limit_trainer_threads(self, commands: Sequence[ServerCommand]) -> None:
        """Restrict the trainer to as many threads as the servers leave cores."""
        from plugrad.rollout.servers.cores import num_cores_left

        left = num_cores_left(command.environment for command in commands)
        if left is not None and left < torch.get_num_threads():
            torch.set_num_threads(max(1, left))
            logger.info(f"the trainer uses {max(1, left)} of this machine's cores; the servers use the others.")

    def _check_servers(self, required: Requirements) -> list[ServerInfo]:
        from plugrad.rollout.servers.server_checks import check_server

        started_by_run = self._supervisor is not None
        return [check_server(server, required, started_by_run=started_by_run) for server in self._servers.values()]

    async def _apply_update(self, errors: dict[str, str | None], version: int) -> None:
        """Tell the client and the balancer of new weights. Runs in the event loop, which owns both."""
        self._client.version = version
        self._balancer.apply_update(errors)

    def _resend_to_all(self, version: int) -> dict[str, str | None]:
        from plugrad.rollout.servers.server import call_in_parallel

        self._wait_for_any()
        servers = self._servers.items()
        return call_in_parallel({address: partial(self._weight_sync.resend, server, version) for address, server in servers})

    def _wait_for_any(self) -> None:
        """Wait until a server that the run started responds. It does not wait for others: they may never come back."""
        from plugrad.rollout.servers.supervisor import wait_until_any_healthy

        if not self._table.addresses:
            wait_until_any_healthy(self.addresses, self._table.start_timeout_s, self._may_respond)

    def _may_respond(self) -> bool:
        if self._supervisor is None:
            # Only the main rank knows: it stops the run if no server comes back.
            return not self._is_closed
        self._supervisor.restart_exited()
        return self._supervisor.any_running

    def _revive(self, address: str, version: int, may_load: bool) -> None:
        """Check that a server has the run's weights, and have it load them if it may.

        Raises:
            ServerError: it still does not have them.
        """
        from plugrad.rollout.servers.server import ServerError

        if may_load:
            self._wait_for_any()
        server = self._servers[address]
        if self._labels.is_at_least(label := server.weight_label(), version):
            return
        if not may_load:
            raise ServerError(f"its weights are {label!r}, not this run's version {version}")
        self._weight_sync.resend(server, version)
        logger.warning(f"the server {address} had the weights {label!r} and has loaded this run's again.")

    def _log_hint(self) -> str:
        """Return the end of an error about all servers: how those that have exited did, or where their output is."""
        exits = "" if self._supervisor is None else "".join(f"\n{message}" for message in self._supervisor.exit_messages())
        logs = "" if self._table.addresses else f"\nThe servers' output is in {self._folder / 'servers'}."
        return exits or logs

    def _stop_servers(self) -> None:
        if self._supervisor is not None:
            self._supervisor.close()


def _save_model(model: EngineModel, folder: Path) -> str:
    """Save what a server needs to start: everything but the weights, which it receives later."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder)
    return str(folder)
