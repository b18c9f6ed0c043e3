"""New weights by vLLM's own weight transfer: from device to device, by NCCL between machines or by CUDA IPC on one device.

The trainer's side of https://docs.vllm.ai/en/stable/training/weight_transfer/, one of vLLM's trainer engines a server.
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

from plugrad.rollout.servers.server import Server, ServerError
from plugrad.rollout.servers.weight_labels import Labels

Weights = Iterable[tuple[str, Tensor]]
OnMain = Callable[[Callable[[], Any]], Any]

OTHER_RANK = 1
"""vLLM's trainer side tells rank 0, which sends, from all others, which only help to gather."""


class TransferTransport:
    """Sends each version to every server in turn: each iterates the weights once, on every rank."""

    def __init__(
        self,
        backend: str,
        servers: Sequence[Server],
        labels: Labels,
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
        """Give every server the weights. Called on every rank.

        Returns:
            By address, what went wrong, or None.
        """
        self._source.weights = weights
        # On every rank, and before anything can fail on one of them.
        self._source.metadata()
        return {server.address: self._send_to(server, version) for server in self._servers}

    def revive(self, server: Server, version: int) -> None:
        """Weights cannot be sent between updates, for which all ranks are needed.

        Raises:
            ServerError: always.
        """
        raise ServerError(f"it does not have the run's weights of version {version}, and gets none before the next update")

    def close(self) -> None:
        """Give back what the senders hold."""
        for sender in self._senders.values():
            sender.shutdown()
        self._senders = {}

    def _send_to(self, server: Server, version: int) -> str | None:
        # Which ranks go on is for all of them to know: where the policy is sharded, they gather together.
        complaint = self._agreed(lambda: _raised_by(lambda: server.get("/health")))
        if complaint is None:
            mine = _raised_by(lambda: self._send(server, version))
            complaint = self._agreed(lambda: mine)
        if complaint is not None and (sender := self._senders.pop(server.address, None)):
            # A group with a member missing is of no use: the next update makes another.
            sender.shutdown()
        return complaint

    def _agreed(self, act: Callable[[], str | None]) -> str | None:
        said: str | None = self._on_main(act)
        return said

    def _send(self, server: Server, version: int) -> None:
        with ExitStack() as stack:
            # Whatever fails here, the other ranks must not be left waiting in the middle of the weights.
            stack.enter_context(self._source.iterated_once())
            if self._is_main:
                stack.enter_context(server.taking(self._labels.of(version), self._labels))
            if server.address not in self._senders:
                self._senders[server.address] = self._sender(server)
            self._senders[server.address].send_weights()

    def _sender(self, server: Server) -> Any:
        return WeightTransferTrainerFactory.trainer_init(
            INITS[self._backend](server, 0 if self._is_main else OTHER_RANK),
            client=HTTPVLLMWeightSyncClient(server.address, timeout=self._timeout_s),
            source=self._source,
        )


class Source(WeightSource):
    """The policy's weights as vLLM's trainer side reads them."""

    def __init__(self) -> None:
        self.weights: Weights = ()
        self._metadata: list[ParamMeta] | None = None
        self._left: Iterator[tuple[str, Tensor]] | None = None

    def metadata(self) -> list[ParamMeta]:
        """Return every weight's name, dtype and shape. The first call iterates the weights; they stay what they are."""
        if self._metadata is None:
            self._metadata = [ParamMeta(name, weight.dtype, tuple(weight.shape)) for name, weight in self.weights]
        return self._metadata

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate the weights from the first."""
        self._left = iter(self.weights)
        return self._left

    def iterated_once(self) -> ExitStack:
        """Return a context at whose end the weights have been iterated to their last, if need be for nobody."""
        self._left = None
        stack = ExitStack()
        stack.callback(self._finish)
        return stack

    def _finish(self) -> None:
        for _ in iter(self) if self._left is None else self._left:
            pass


def _nccl(server: Server, rank: int) -> Any:
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

    if rank:
        # It opens no connection.
        return NCCLTrainerInitInfo("", 0, 0, rank=rank)
    address = _own_address(server)
    with socket.create_server((address, 0)) as listening:
        port = listening.getsockname()[1]
    world_size = 1 + int(server.get("/get_world_size")["world_size"])
    return NCCLTrainerInitInfo(master_address=address, master_port=port, world_size=world_size, rank=rank)


def _ipc(server: Server, rank: int) -> Any:
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

    # Packed: without it, all weights are gathered before the first is sent.
    return IPCTrainerInitInfo(packed=True, rank=rank)


INITS: dict[str, Callable[[Server, int], Any]] = {"nccl": _nccl, "ipc": _ipc}
"""What vLLM's trainer side is told, by the backend that the server was started with."""


def _own_address(server: Server) -> str:
    """Return this machine's address on the network that leads to the server."""
    where = urlsplit(server.address)
    with socket.create_connection((str(where.hostname), where.port or 80), timeout=10) as connection:
        return str(connection.getsockname()[0])


def _raised_by(act: Callable[[], object]) -> str | None:
    try:
        act()
    except Exception as error:
        # vLLM's trainer side raises whatever its network does.
        return f"{type(error).__name__}: {error}"
    return None
