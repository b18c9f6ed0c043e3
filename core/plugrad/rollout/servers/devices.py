"""On which GPUs of a machine servers compute that plugrad starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"
RANKS_HERE = "LOCAL_WORLD_SIZE"


def devices_of(address: str, addresses: Sequence[str], *, beside_trainer: bool) -> dict[str, str]:
    """Return what gives the server at an address its share of the GPUs of its machine.

    Left to itself, every server takes the first GPUs that it sees, as the others do. Beside a trainer, whose ranks have the
    first ones, they share those that are left. Where there are too few for a GPU each, nothing is said: they have to share
    with the trainer, and how much of its memory each takes is for `--gpu-memory-utilization`.
    """
    on_its_machine = [other for other in addresses if urlsplit(other).hostname == urlsplit(address).hostname]
    if len(on_its_machine) == 1 and not beside_trainer:
        return {}
    free = _visible()[int(os.environ.get(RANKS_HERE, "1")) if beside_trainer else 0 :]
    share, number = len(free) // len(on_its_machine), on_its_machine.index(address)
    return {VISIBLE: ",".join(free[number * share : (number + 1) * share])} if share else {}


def _visible() -> list[str]:
    count = torch.cuda.device_count()
    said = [device for device in os.environ.get(VISIBLE, "").split(",") if device]
    return said[:count] if said else [str(number) for number in range(count)]
