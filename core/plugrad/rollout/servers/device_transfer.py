"""Send new weights by vLLM's own weight transfer: between devices, by NCCL across machines or by CUDA IPC on one device.

This is the trainer's side of https://docs.vllm.ai/en/stable/training/weight_transfer/, with one of vLLM's trainer engines
per server.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from torch import Tensor
from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.clients import HTTPVLLMWeightSyncClient

from plugrad.rollout.servers.server import Server, ServerError, excerpt
from plugrad.rollout.servers.weight_labels import WeightLabels

Weights = Iterable[tuple[str, Tensor]]
OnMain = Callable[[Callable[[], Any]], Any]

OTHER_RANK = 1
"""vLLM's trainer side distinguishes rank 0, which sends, from all others, which only help to gather."""


class DeviceWeightSync:
    """Sends each version to one server after another. Every rank iterates the weights once per server."""

    def __init__(
        self,
        backend: str,
        servers: Sequence[Server],
        labels: WeightLabels,
        *,
        on_main: OnMain,
        is_main: bool,
        timeout_s: float,
    ) -> None:
        self._backend, self._labels, self._timeout_s = backend, labels, timeout_s
        self._servers, self._on_main, self._is_main = servers, on_main, is_main
        self._source = Source()
        self._senders: dict[str, Any] = {}

    def send(self, weights: Weights, version: int) -> dict[str, str | None]:
        """Send the weights to every server. Called on every rank.

        Returns:
            The error of each server by address, or None.
        """
        self._source.weights = weights
        # On every rank, and before anything can fail on one of them.
        self._source.metadata()
        return {server.address: self._send_to(server, version) for server in self._servers}

    def resend(self, server: Server, version: int) -> None:
        """Raise an error: sending needs all ranks, so it works in an update only.

        Raises:
            ServerError: always.
        """
        raise ServerError(f"it does not have the run's weights of version {version}, and can only get them in an update")

    def close(self) -> None:
        """Shut the senders down."""
        for sender in self._senders.values():
            sender.shutdown()
        self._senders = {}

    def _send_to(self, server: Server, version: int) -> str | None:
        # All ranks must agree on each step: if the policy is sharded, they gather together.
        error = self._agree_on(lambda: _error_of(lambda: server.get("/health")))
        if error is None:
            own_error = _error_of(lambda: self._send(server, version))
            error = self._agree_on(lambda: own_error)
        if error is not None and (sender := self._senders.pop(server.address, None)):
            # A group with a missing member is useless: the next update creates another.
            sender.shutdown()
        return error

    def _agree_on(self, find_error: Callable[[], str | None]) -> str | None:
        error: str | None = self._on_main(find_error)
        return error

    def _send(self, server: Server, version: int) -> None:
        with ExitStack() as stack:
            # If this fails midway, the other ranks must not be left waiting for the remaining weights.
            stack.enter_context(self._source.iterated_once())
            if self._is_main:
                stack.enter_context(server.updating_weights(self._labels.label_of(version), self._labels))
            if server.address not in self._senders:
                self._senders[server.address] = self._create_sender(server)
            self._senders[server.address].send_weights()

    def _create_sender(self, server: Server) -> Any:
        return WeightTransferTrainerFactory.trainer_init(
            INITS[self._backend](server, 0 if self._is_main else OTHER_RANK),
            client=HTTPVLLMWeightSyncClient(server.address, timeout=self._timeout_s),
            source=self._source,
        )


class Source(WeightSource):
    """The policy's weights, in the form that vLLM's trainer side reads."""

    def __init__(self) -> None:
        self.weights: Weights = ()
        self._metadata: list[ParamMeta] | None = None
        self._remaining: Iterator[tuple[str, Tensor]] | None = None

    def metadata(self) -> list[ParamMeta]:
        """Return every weight's name, dtype and shape. The first call iterates the weights; these facts never change."""
        if self._metadata is None:
            self._metadata = [ParamMeta(name, weight.dtype, tuple(weight.shape)) for name, weight in self.weights]
        return self._metadata

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate the weights from the first."""
        self._remaining = iter(self.weights)
        return self._remaining

    def iterated_once(self) -> ExitStack:
        """Return a context that iterates all remaining weights on exit, even if nobody needs them."""
        self._remaining = None
        stack = ExitStack()
        stack.callback(self._finish)
        return stack

    def _finish(self) -> None:
        for _ in iter(self) if self._remaining is None else self._remaining:
            pass


def _nccl(server: Server, rank: int) -> Any:
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

    if rank:
        # It opens no connection.
        return NCCLTrainerInitInfo("", 0, 0, rank=rank)
    address = _own_address(server)
    with socket.create_server((address, 0)) as listening:
        port = listening.getsockname()[1]
    world_size = 1 + _world_size_of(server)
    return NCCLTrainerInitInfo(master_address=address, master_port=port, world_size=world_size, rank=rank)


def _world_size_of(server: Server) -> int:
    found = server.get("/get_world_size")
    size = found.get("world_size") if isinstance(found, dict) else None
    if not (isinstance(size, int) and 0 < size < 2**20):
        raise ServerError(f"GET /get_world_size returned no number of processes but {excerpt(str(found))}")
    return size


def _ipc(server: Server, rank: int) -> Any:
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

    # Without packing, all weights are gathered before the first is sent.
    return IPCTrainerInitInfo(packed=True, rank=rank)


INITS: dict[str, Callable[[Server, int], Any]] = {"nccl": _nccl, "ipc": _ipc}
"""Creates the init info of vLLM's trainer side, by the backend that the server was started with."""


def _own_address(server: Server) -> str:
    """Return this machine's address on the network that leads to the server."""
    where = urlsplit(server.address)
    with socket.create_connection((str(where.hostname), where.port or 80), timeout=10) as connection:
        return str(connection.getsockname()[0])


def _error_of(call: Callable[[], object]) -> str | None:
    try:
        call()
    except Exception as error:
        # vLLM's trainer side raises whatever its network raises.
        return f"{type(error).__name__}: {error}"
    return None
