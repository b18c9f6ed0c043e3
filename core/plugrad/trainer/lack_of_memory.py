"""An error that says that memory ran out becomes one of ours, with what to lower."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

import torch

from plugrad.errors import TrainingError

T = TypeVar("T")

REMEDY = (
    "Lower tokens_per_micro_batch (training) or rollout.generation_batch_size (sampling), or set "
    "model.gradient_checkpointing = true. On a GPU, [memory] moves what it does not need at the moment, and [model.lora] "
    'trains less: see "Fit it on your GPU" in the documentation.'
)
OF_THE_ALLOCATOR = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")
"""PyTorch raises a plain RuntimeError where a CPU has no memory left."""


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, the device's or the machine's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OF_THE_ALLOCATOR)


def as_our_error(error: BaseException) -> TrainingError:
    """Return the error of a run for which there is not enough memory."""
    whose = "the device" if isinstance(error, torch.OutOfMemoryError) else "the machine"
    found = f": {error}" if str(error) else ""
    return TrainingError(f"{whose} is out of memory{found}{'' if found.endswith('.') else '.'} {REMEDY}")


def free_what_failed(error: BaseException) -> None:
    """Forget the tensors of the calls that failed, which their traceback keeps: saving the model takes memory, too."""
    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__


def within_memory(attempt: Callable[[], T]) -> T:
    """Call `attempt` and return its result.

    Raises:
        TrainingError: memory ran out.
    """
    try:
        return attempt()
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise as_our_error(error) from error
