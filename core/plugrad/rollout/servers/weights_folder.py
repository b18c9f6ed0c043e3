"""Send new weights through a folder on a shared file system: the main rank writes them once, and every server reads them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from plugrad.errors import EngineError
from plugrad.rollout.servers.server import Server, ServerError, call_in_parallel
from plugrad.rollout.servers.weight_labels import WeightLabels

SHARD_BYTES = 2**30
"""The most that is copied at a time, unless a single tensor is larger."""

Weights = Iterable[tuple[str, Tensor]]


class FolderWeightSync:
    """Writes each version to a folder of its own and has the servers load it."""

    def __init__(
        self,
        folder: Path,
        servers: Sequence[Server],
        labels: WeightLabels,
        *,
        on_main: Callable[[Callable[[], Any]], Any],
        is_main: bool,
    ) -> None:
        self._folder, self._remove_parent = folder / labels.run_id, not folder.exists()
        self._servers, self._labels = servers, labels
        self._on_main, self._is_main = on_main, is_main
        self._num_sent = 0

    def send(self, weights: Weights, version: int) -> dict[str, str | None]:
        """Send the weights to every server. Called on every rank.

        Returns:
            The error of each server by address, or None.

        Raises:
            EngineError: the weights cannot be written.
        """
        weights = iter(weights)
        failure: EngineError | None = None
        if self._is_main:
            try:
                self._write(weights, version)
            except EngineError as error:
                failure = error
        # Always iterate to the end: if the policy is sharded, the other ranks wait for this one at every weight.
        for _ in weights:
            pass
        errors: dict[str, str | None] = self._on_main(lambda: self._load_everywhere(failure))
        return errors

    def resend(self, server: Server, version: int) -> None:
        """Have a server load the newest weights in the folder. Any rank may call this at any time.

        Raises:
            ServerError: it cannot load them, or the folder has none of `version` or newer.
        """
        with self._locked(server):
            # Another rank, or an update, may have been quicker.
            if not self._labels.is_at_least(server.weight_label(), version):
                self._load(server, self._newest(version))

    def close(self) -> None:
        """Remove the written weights."""
        if self._is_main:
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._remove_parent:
                with suppress(OSError):
                    self._folder.parent.rmdir()

    def _load_everywhere(self, failure: EngineError | None) -> dict[str, str | None]:
        if failure is not None:
            raise failure
        newest = self._newest(0)
        errors = call_in_parallel({server.address: partial(self._load_locked, server, newest) for server in self._servers})
        for path in self._versions():
            if path != newest:
                shutil.rmtree(path, ignore_errors=True)
        return errors

    def _load_locked(self, server: Server, weights: Path) -> None:
        with self._locked(server):
            self._load(server, weights)

    def _load(self, server: Server, weights: Path) -> None:
        with server.updating_weights(self._labels.label_of(_version_of(weights)), self._labels):
            server.load_weights(weights)

    @contextmanager
    def _locked(self, server: Server) -> Iterator[None]:
        """Let one caller at a time load weights into this server: two could leave one's weights with the other's label."""
        name = hashlib.blake2b(server.address.encode(), digest_size=8).hexdigest()
        try:
            lock = FileLock(self._folder / f"{name}.lock").acquire()
        except (OSError, NotImplementedError) as error:
            raise ServerError(f"cannot acquire its lock in {self._folder}: {error}") from error
        with lock:
            yield

    def _versions(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*-v*") if re.fullmatch(r"\d{6,}-v\d+", path.name))

    def _newest(self, version: int) -> Path:
        if not (found := self._versions()) or _version_of(found[-1]) < version:
            raise ServerError(f"it does not have the run's weights of version {version}, and {self._folder} does not either")
        return found[-1]

    def _write(self, weights: Iterator[tuple[str, Tensor]], version: int) -> None:
        self._num_sent += 1
        path = self._folder / f"{self._num_sent:06d}-v{version}"
        # Renamed when complete.
        unfinished = path.with_suffix(".part")
        try:
            unfinished.mkdir(parents=True)
            write_weights(weights, unfinished)
            unfinished.rename(path)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise EngineError(
                f"the weights for the servers cannot be written to {self._folder}: {error}. Make room there, or set "
                "rollout.server.weights_folder to a folder that both the trainer and the servers can use."
            ) from error


def write_weights(weights: Weights, folder: Path) -> None:
    """Write weights in the layout of Transformers, tied ones too, without a second full copy in memory.

    Raises:
        OSError, SafetensorError: the folder cannot be written to.
    """
    weight_map: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(_shards(weights), 1):
        file = f"model-{number:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
        total += sum(weight.nbytes for weight in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _shards(weights: Weights) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, weight in weights:
        if shard and size + weight.nbytes > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        # Copied: safetensors rejects tied weights, which share memory.
        shard[name] = weight.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        size += weight.nbytes
    yield shard


def _version_of(weights: Path) -> int:
    return int(weights.name.rpartition("-v")[2])
