"""The peak memory of this process."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

GIB = 2**30
STATUS = Path("/proc/self/status")


def peak_memory_gib(device: torch.device) -> float:
    """Return the peak of memory allocated on the device, or resident on a CPU; NaN where it is unknown."""
    return _peak_allocated(device) if device.type != "cpu" else _peak_resident()


def _peak_allocated(device: torch.device) -> float:
    # `torch.accelerator` has this only since PyTorch 2.9, and not every kind of device keeps count.
    peak = getattr(getattr(torch, device.type, None), "max_memory_allocated", None)
    return peak(device) / GIB if peak else float("nan")


def _peak_resident() -> float:
    if STATUS.exists():
        # Not getrusage: on Linux a process inherits in it the peak of the process that started it.
        lines = (line.split() for line in STATUS.read_text(encoding="utf-8").splitlines())
        kib = next((int(line[1]) for line in lines if line[0] == "VmHWM:"), None)
        return float("nan") if kib is None else kib * 1024 / GIB
    if sys.platform == "win32":
        return float("nan")
    import resource

    in_kib = sys.platform != "darwin"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if in_kib else 1) / GIB
