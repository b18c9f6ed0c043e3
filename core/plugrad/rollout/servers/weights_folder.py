"""New weights through a folder: written once by the main rank, read by every server from a file system that they share."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from plugrad.errors import EngineError
from plugrad.rollout.servers.server import Server, ServerError, all_at_once
from plugrad.rollout.servers.weight_labels import Labels

SHARD_BYTES = 2**30
"""So much of the model is copied at a time, or its largest tensor."""

Weights = Iterable[tuple[str, Tensor]]


class FolderTransport:
    """Writes each version to a folder of its own and has the servers load it."""

    def __init__(
        self,
        folder: Path,
        servers: Sequence[Server],
        labels: Labels,
        *,
        on_main: Callable[[Callable[[], Any]], Any],
        is_main: bool,
    ) -> None:
        self._folder, self._is_made_here = folder / labels.run_id, not folder.exists()
        self._servers, self._labels = servers, labels
        self._on_main, self._is_main = on_main, is_main
        self._count = 0

    def send(self, weights: Weights, version: int) -> dict[str, str | None]:
        """Give every server the weights. Called on every rank.

        Returns:
            By address, what went wrong, or None.

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
        # Whatever happened here: where the policy is sharded, the other ranks wait for this one to go on.
        for _ in weights:
            pass
        complaints: dict[str, str | None] = self._on_main(lambda: self._load_everywhere(failure))
        return complaints

    def revive(self, server: Server, version: int) -> None:
        """Have a server load the newest weights that are there. Any rank may ask for that at any time.

        Raises:
            ServerError: it cannot, or there are none of at least this version.
        """
        with self._alone_with(server):
            # Another rank, or an update, may have been quicker.
            if not self._labels.cover(server.label(), version):
                self._load(server, self._newest(version))

    def close(self) -> None:
        """Remove what was written."""
        if self._is_main:
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._is_made_here:
                with suppress(OSError):
                    self._folder.parent.rmdir()

    def _load_everywhere(self, failure: EngineError | None) -> dict[str, str | None]:
        if failure is not None:
            raise failure
        newest = self._newest(0)
        complaints = all_at_once({server.address: self._loading(server, newest) for server in self._servers})
        for older in self._versions():
            if older != newest:
                shutil.rmtree(older, ignore_errors=True)
        return complaints

    def _loading(self, server: Server, weights: Path) -> Callable[[], None]:
        def load() -> None:
            with self._alone_with(server):
                self._load(server, weights)

        return load

    def _load(self, server: Server, weights: Path) -> None:
        with server.taking(self._labels.of(_version_of(weights)), self._labels):
            server.load(weights)

    @contextmanager
    def _alone_with(self, server: Server) -> Iterator[None]:
        """Wait until nobody else has this server load weights: two at once could leave one's with the other's label."""
        name = hashlib.blake2b(server.address.encode(), digest_size=8).hexdigest()
        try:
            lock = FileLock(self._folder / f"{name}.lock").acquire()
        except (OSError, NotImplementedError) as error:
            raise ServerError(f"its lock in {self._folder} cannot be taken: {error}") from error
        with lock:
            yield

    def _versions(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("*-v*") if re.fullmatch(r"\d{6,}-v\d+", path.name))

    def _newest(self, version: int) -> Path:
        if not (there := self._versions()) or _version_of(there[-1]) < version:
            raise ServerError(f"it does not have the run's weights of version {version}, and they are not in {self._folder}")
        return there[-1]

    def _write(self, weights: Iterator[tuple[str, Tensor]], version: int) -> None:
        self._count += 1
        place = self._folder / f"{self._count:06d}-v{version}"
        # Under another name until it is whole.
        unfinished = place.with_suffix(".part")
        try:
            unfinished.mkdir(parents=True)
            write_weights(weights, unfinished)
            unfinished.rename(place)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise EngineError(
                f"the weights for the servers cannot be written to {self._folder}: {error}. Make room there, or set "
                "rollout.server.weights_folder to a folder that trainer and servers can both use."
            ) from error


def write_weights(weights: Weights, folder: Path) -> None:
    """Write weights as Transformers lays them out, tied ones too, without ever holding a second whole copy.

    Raises:
        OSError, SafetensorError: the folder cannot be written to.
    """
    place: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(_shards(weights), 1):
        file = f"model-{number:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        place |= dict.fromkeys(shard, file)
        total += sum(weight.nbytes for weight in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _shards(weights: Weights) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, weight in weights:
        if shard and size + weight.nbytes > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        # Copied: tied weights share their memory, which the format refuses.
        shard[name] = weight.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        size += weight.nbytes
    yield shard


def _version_of(weights: Path) -> int:
    return int(weights.name.rpartition("-v")[2])
