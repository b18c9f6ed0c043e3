"""What vLLM 0.32 needs on a machine without a GPU, in the training process and in servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

KV_CACHE_GIB = 1.0
"""The default size of the key-value cache. On a GPU, vLLM takes what `gpu_memory_utilization` leaves."""
SERVE_ARGUMENTS = ["--enforce-eager", "--no-enable-chunked-prefill"]
"""Arguments of `vllm serve`. On a CPU, vLLM 0.32 crashes on a prompt that it prefills in chunks: it tries to rewind its
seeded generator, which is impossible."""


def is_cpu() -> bool:
    """Return whether vLLM computes on this machine's CPU, because it has no accelerator."""
    return not torch.accelerator.is_available()


def unlink_shared_memory() -> None:
    """Remove the name of the memory that vLLM shares among the ranks of one engine. By now, all ranks have opened it.

    Every run uses the same name, and vLLM removes it only when its libraries are unloaded in order. After a killed run, the
    next one could not start.
    """
    from vllm.distributed.parallel_state import get_tp_group

    shared: Any = getattr(get_tp_group().device_communicator, "dist_module", None)
    if not hasattr(shared, "group_name"):
        return
    # A file, on Linux. Python's own SharedMemory does not allow the colon in the name.
    Path("/dev/shm", f"{shared.group_name.lstrip('/')}_{shared.communicator.rank}").unlink(missing_ok=True)
