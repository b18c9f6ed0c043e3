"""Assign each server that plugrad starts its share of a machine's GPUs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

import torch

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
NUM_LOCAL_RANKS = "LOCAL_WORLD_SIZE"


def gpu_environment(address: str, addresses: Sequence[str], *, beside_trainer: bool) -> dict[str, str]:
    """Return the environment variables that give the server at `address` its share of its machine's GPUs.

    By default, every server takes the first GPUs that it sees, and so the same ones. Beside a trainer, whose ranks have the
    first GPUs, the servers share the rest. With too few GPUs for one each, nothing is set: the servers share them with the
    trainer, and `--gpu-memory-utilization` sets how much of the memory each takes.
    """
    on_its_machine = [other for other in addresses if urlsplit(other).hostname == urlsplit(address).hostname]
    if len(on_its_machine) == 1 and not beside_trainer:
        return {}
    free = _visible_devices()[int(os.environ.get(NUM_LOCAL_RANKS, "1")) if beside_trainer else 0 :]
    share, index = len(free) // len(on_its_machine), on_its_machine.index(address)
    return {VISIBLE_DEVICES: ",".join(free[index * share : (index + 1) * share])} if share else {}


def _visible_devices() -> list[str]:
    count = torch.cuda.device_count()
    listed = [device for device in os.environ.get(VISIBLE_DEVICES, "").split(",") if device]
    return listed[:count] if listed else [str(index) for index in range(count)]
