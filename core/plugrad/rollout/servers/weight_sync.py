"""How new weights reach the servers: through a folder that they see, or by vLLM's own weight transfer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import EngineError
from plugrad.rollout.packages import require
from plugrad.rollout.servers.stale_weights import WEIGHTS
from plugrad.rollout.servers.weight_labels import Labels

if TYPE_CHECKING:
    from plugrad.rollout.servers.server import Server

logger = logging.getLogger(__name__)


class Transport(Protocol):
    """Gives servers new weights."""

    def send(self, weights: Iterable[tuple[str, Tensor]], version: int) -> dict[str, str | None]:
        """Give every server the weights, on every rank; return by address what went wrong, or None."""
        ...

    def revive(self, server: Server, version: int) -> None:
        """Let one server have them again, between updates."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


def chosen_transport(
    table: ServerTable,
    servers: Sequence[Server],
    theirs: set[str | None],
    labels: Labels,
    folder: Path,
    *,
    on_main: Callable[[Callable[[], Any]], Any],
    is_main: bool,
) -> Transport:
    """Return how the servers are given weights.

    Args:
        table: of the run file.
        servers: all of them.
        theirs: the backends of vLLM's weight transfer that they were started with; None for none.
        labels: of the run's weights.
        folder: of the run, for weights on their way.
        on_main: runs a function on the main rank while the others wait, and returns its result, or its error, on all.
        is_main: whether this is the main rank.

    Raises:
        EngineError: this machine or the servers cannot do what the run file asks for.
    """
    by = _backend(table.weights, theirs)
    logger.info(f"new weights reach the servers {'through a folder' if by == 'folder' else f'by {by.upper()}'}.")
    if by == "folder":
        from plugrad.rollout.servers.weights_folder import FolderTransport

        place = Path(table.weights_folder or folder / WEIGHTS)
        return FolderTransport(place, servers, labels, on_main=on_main, is_main=is_main)
    require("vllm-server", ["vllm"])
    from plugrad.rollout.servers.device_transfer import TransferTransport

    return TransferTransport(by, servers, labels, on_main=on_main, is_main=is_main, timeout_s=table.timeout_s)


def _backend(asked: str, theirs: set[str | None]) -> str:
    """Return what the run file says, or what the servers were started with where this machine has a device for it."""
    if asked == "auto":
        common = next(iter(theirs)) if len(theirs) == 1 else None
        return common if common in ("nccl", "ipc") and torch.cuda.is_available() else "folder"
    if asked == "folder":
        return asked
    if not torch.cuda.is_available():
        raise EngineError(
            f'rollout.server.weights = "{asked}" needs a CUDA device, and this machine has none. Use "folder".'
        )
    if theirs != {asked}:
        raise EngineError(
            f'rollout.server.weights = "{asked}", and the servers were started for {sorted(map(str, theirs))}. Start with '
            f'--weight-transfer-config \'{{"backend": "{asked}"}}\'.'
        )
    return asked
