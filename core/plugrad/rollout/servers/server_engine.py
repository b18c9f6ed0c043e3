"""The `vllm-server` engine: running vLLM servers complete the prompts, and are given the policy's weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
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
from plugrad.rollout.servers.balancer import Rotation
from plugrad.rollout.servers.weight_labels import Labels
from plugrad.rollout.servers.weight_sync import chosen_transport

if TYPE_CHECKING:
    from plugrad.rollout.servers.command import ServerCommand
    from plugrad.rollout.servers.server_checks import Expected, Found
    from plugrad.rollout.servers.supervisor import ServerProcesses

logger = logging.getLogger(__name__)

T = TypeVar("T")

ENGINE = "vllm-server"


class ServerEngine:
    """Completes prompts with vLLM servers that run already, or that it starts and stops itself.

    Every rank has one, with its own connections to the same servers. The main rank alone starts them and has them take new
    weights. `generate` and `update_weights` may be called from two threads at once: requests in flight wait while a server
    takes new weights, and go on with these.
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
        """Start the servers, or find those that run, and see that each can complete this run's prompts.

        Args:
            table: of the run file.
            model: the policy's.
            folder: of the run, for the servers' logs and the weights on their way to them.
            on_main: runs a function on the main rank while the others wait, and returns its result, or its error, on all.
            is_main: whether this is the main rank.

        Raises:
            EngineError: a server cannot be started, reached or used, or a package is missing.
        """
        require(ENGINE, needed_for_servers(table, is_main=is_main))
        from plugrad.rollout.servers.server_checks import Expected

        self._table, self._stops, self._is_main = table, model.stops, is_main
        self._on_main: Callable[[Callable[[], Any]], Any] = on_main
        self._vocab_size = model.vocab_size
        self._folder = folder.resolve()
        self._processes: ServerProcesses | None = None
        self._updating = Lock()
        self._is_closed = False
        expected = Expected(model, table)
        try:
            self._open(expected)
        except BaseException:
            self._stop_processes()
            raise

    @property
    def addresses(self) -> list[str]:
        """Of the servers."""
        return list(self._servers)

    @property
    def vllm_plugins(self) -> list[str]:
        """vLLM's own plugins that the servers may load, for what is recorded of a run; "*" for all that there are."""
        return sorted({plugin for found in self._found for plugin in found.plugins})

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Sample from softmax(logits / temperature). A group comes from exactly one server's answer.

        Raises:
            EngineError: no server is left, or none gives an answer that can be used.
        """
        from plugrad.rollout.servers.request import requests_for

        requests = requests_for(prompts, sampling, stops=self._stops, vocab_size=self._vocab_size)
        return sampling.with_copies(self._loop.run(self._client.complete(requests)))

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Let every server take the weights; requests in flight go on with them. One that cannot is left out until it can.

        A server that it has started and that has ended is started again: it takes part in an update when it is up. Where it
        was the last one, this waits for it.

        Raises:
            EngineError: no server took them, or they cannot be written.
        """
        with self._updating:
            if self._processes is not None:
                self._processes.restart_ended()
            complaints = self._transport.send(weights, version)
            if all(complaints.values()) and not self._table.addresses:
                complaints = self._on_main(lambda: self._sent_again(version))
            self._loop.call(lambda: self._after_update(complaints, version))
            for address, complaint in complaints.items():
                if complaint is not None:
                    logger.warning(f"the server {address} did not take the weights of version {version}: {complaint}")
        if all(complaints.values()):
            raise self._rotation.nobody_answers(f"no server took the weights of version {version}:")

    def close(self) -> None:
        """Give up what is asked for, remove the weights on their way, and stop the servers that it started."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._loop.close(self._client.close())
            self._transport.close()
            for server in self._servers.values():
                server.close()
        finally:
            self._stop_processes()

    def _open(self, expected: Expected) -> None:
        from plugrad.rollout.servers.api_key import headers_of
        from plugrad.rollout.servers.client import Client
        from plugrad.rollout.servers.event_loop import LoopThread
        from plugrad.rollout.servers.server import Server

        addresses: list[str] = self._on_main(lambda: self._table.addresses or self._start(expected))
        headers = headers_of(self._table)
        self._servers = {address: Server(address, headers, self._table.timeout_s) for address in addresses}
        self._found: list[Found] = self._on_main(lambda: self._checked(expected))
        self._labels: Labels = self._on_main(Labels.fresh)
        self._transport = chosen_transport(
            self._table,
            list(self._servers.values()),
            {found.transfer for found in self._found},
            self._labels,
            self._folder,
            on_main=self._on_main,
            is_main=self._is_main,
        )
        self._rotation = Rotation.of(addresses, self._where_to_look)
        self._client = Client(self._rotation, self._labels, self._table, headers, self._revive)
        self._loop = LoopThread("plugrad-servers")

    def _start(self, expected: Expected) -> list[str]:
        from plugrad.rollout.servers.command import server_commands
        from plugrad.rollout.servers.supervisor import ServerProcesses, free_addresses

        folder = self._folder / "servers"
        addresses = free_addresses(self._table.num_servers)
        commands = server_commands(
            addresses,
            _saved(expected.model, folder / "model"),
            self._table,
            dtype=expected.model.dtype_name,
            max_model_len=expected.model.max_tokens,
            is_cpu=not torch.accelerator.is_available(),
            beside_trainer=True,
        )
        several = f"{len(addresses)} vLLM servers" if len(addresses) > 1 else "a vLLM server"
        logger.info(f"starting {several}; what they print is in {folder}.")
        self._processes = ServerProcesses(commands, folder)
        seconds = self._processes.wait_until_well(self._table.start_timeout_s)
        logger.info(f"started {several} in {seconds:.0f} s: {', '.join(addresses)}.")
        self._leave_cores_to(commands)
        return addresses

    def _leave_cores_to(self, commands: Sequence[ServerCommand]) -> None:
        """Let the trainer compute on the cores that the servers have left it."""
        from plugrad.rollout.servers.cores import cores_left

        left = cores_left(command.environment for command in commands)
        if left is not None and left < torch.get_num_threads():
            torch.set_num_threads(max(1, left))
            logger.info(f"the trainer computes with {max(1, left)} of this machine's cores; the servers have the others.")

    def _checked(self, expected: Expected) -> list[Found]:
        from plugrad.rollout.servers.server_checks import check_server

        is_ours = self._processes is not None
        return [check_server(server, expected, is_ours=is_ours) for server in self._servers.values()]

    def _after_update(self, complaints: dict[str, str | None], version: int) -> None:
        self._client.version = version
        self._rotation.after_update(complaints)

    def _sent_again(self, version: int) -> dict[str, str | None]:
        from plugrad.rollout.servers.server import all_at_once

        self._wait_for_any()
        servers = self._servers.items()
        return all_at_once({address: partial(self._transport.revive, server, version) for address, server in servers})

    def _wait_for_any(self) -> None:
        """Wait until one of the servers that the run has started answers. Of others nobody here knows whether they will."""
        from plugrad.rollout.servers.supervisor import wait_for_any

        if not self._table.addresses:
            wait_for_any(self.addresses, self._table.start_timeout_s, self._may_answer)

    def _may_answer(self) -> bool:
        if self._processes is None:
            # The main rank's: it ends the run when none will.
            return not self._is_closed
        self._processes.restart_ended()
        return self._processes.any_runs

    def _revive(self, address: str, version: int, may_load: bool) -> None:
        """See whether a server has the run's weights; have it load them if it may.

        Raises:
            ServerError: it does not have them now.
        """
        from plugrad.rollout.servers.server import ServerError

        if may_load:
            self._wait_for_any()
        server = self._servers[address]
        if self._labels.cover(label := server.label(), version):
            return
        if not may_load:
            raise ServerError(f"its weights are {label!r}, which are not the run's of version {version}")
        self._transport.revive(server, version)
        logger.warning(f"the server {address} had the weights {label!r}, and was given the run's again.")

    def _where_to_look(self) -> str:
        """Return what is said after an error of all servers: how those that have ended did, and where their output is."""
        ended = "" if self._processes is None else "".join(f"\n{end}" for end in self._processes.ends())
        logs = "" if self._table.addresses else f"\nWhat the servers print is in {self._folder / 'servers'}."
        return ended or logs

    def _stop_processes(self) -> None:
        if self._processes is not None:
            self._processes.close()


def _saved(model: EngineModel, folder: Path) -> str:
    """Write what a server needs of a model to start: all but the weights, which it is given later."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder)
    return str(folder)
