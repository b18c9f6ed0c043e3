"""The random states of a process: of Python, NumPy, PyTorch and its device."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed


def random_states() -> dict[str, Any]:
    """Return the random states, in types that are read without pickle."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    states = {
        "python": random.getstate(),
        "numpy": (kind, np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Set the random states as `random_states` returned them."""
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def set_new_random_states(seed: int, step: int, rank: int) -> None:
    """Set the random states of a rank that the checkpoint does not have: others than those of any rank before."""
    set_seed((seed * 1_000_003 + step * 15_485_863 + rank) % 2**32)
