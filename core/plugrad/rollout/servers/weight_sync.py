"""Choose how new weights reach the servers: through a shared folder, or by vLLM's own weight transfer."""

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
from plugrad.rollout.servers.stale_weights import WEIGHTS_FOLDER
from plugrad.rollout.servers.weight_labels import WeightLabels

if TYPE_CHECKING:
    from plugrad.rollout.servers.server import Server

logger = logging.getLogger(__name__)


class WeightSync(Protocol):
    """Sends new weights to servers."""

    def send(self, weights: Iterable[tuple[str, Tensor]], version: int) -> dict[str, str | None]:
        """Send the weights to every server. Called on every rank. Return each address's error, or None."""
        ...

    def resend(self, server: Server, version: int) -> None:
        """Have one server load the weights again, between updates."""
        ...

    def close(self) -> None:
        """Free all resources."""
        ...


def choose_weight_sync(
    table: ServerTable,
    servers: Sequence[Server],
    server_backends: set[str | None],
    labels: WeightLabels,
    folder: Path,
    *,
    on_main: Callable[[Callable[[], Any]], Any],
    is_main: bool,
) -> WeightSync:
    """Return the weight sync that the run file asks for.

    Args:
        table: the run file's `[rollout.server]`.
        servers: all servers.
        server_backends: the weight-transfer backends that the servers were started with; None for none.
        labels: the run's weight labels.
        folder: the run folder, for weights on their way.
        on_main: runs a function on the main rank while the others wait. All get its result, or its error.
        is_main: whether this is the main rank.

    Raises:
        EngineError: this machine or the servers do not support what the run file asks for.
    """
    backend = _choose_backend(table.weights, server_backends)
    how = "through a folder" if backend == "folder" else f"by {backend.upper()}"
    logger.info(f"new weights reach the servers {how}.")
    if backend == "folder":
        from plugrad.rollout.servers.weights_folder import FolderWeightSync

        shared = Path(table.weights_folder or folder / WEIGHTS_FOLDER)
        return FolderWeightSync(shared, servers, labels, on_main=on_main, is_main=is_main)
    require("vllm-server", ["vllm"])
    from plugrad.rollout.servers.device_transfer import DeviceWeightSync

    return DeviceWeightSync(backend, servers, labels, on_main=on_main, is_main=is_main, timeout_s=table.timeout_s)


def _choose_backend(chosen: str, server_backends: set[str | None]) -> str:
    """Return the run file's choice. For "auto", return the servers' backend if this machine has a device for it."""
    if chosen == "auto":
        common = next(iter(server_backends)) if len(server_backends) == 1 else None
        return common if common in ("nccl", "ipc") and torch.cuda.is_available() else "folder"
    if chosen == "folder":
        return chosen
    if not torch.cuda.is_available():
        raise EngineError(
            f'rollout.server.weights = "{chosen}" needs a CUDA device, and this machine has none. Use "folder".'
        )
    if server_backends != {chosen}:
        raise EngineError(
            f'rollout.server.weights = "{chosen}", but the servers were started for {sorted(map(str, server_backends))}. '
            f'Start them with --weight-transfer-config \'{{"backend": "{chosen}"}}\'.'
        )
    return chosen
