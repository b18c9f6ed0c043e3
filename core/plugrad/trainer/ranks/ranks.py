"""The ranks of a run: which one this is, and what they tell each other outside the gradient."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs
from torch.distributed.fsdp import MixedPrecisionPolicy

from plugrad.contracts.measures import Measures
from plugrad.trainer.ranks.accelerate_config import refuse_what_is_not_supported

T = TypeVar("T")

PATIENCE = timedelta(days=1)
"""How long one rank may generate or save while the others wait. A rank that fails is noticed at once, by other means."""


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, and this one's place among them. A run in one process is a run of one rank."""

    index: int = 0
    count: int = 1
    group: Any = None
    """Through gloo, on the CPU: what is exchanged here never waits for a device."""

    @classmethod
    def of(cls, accelerator: Accelerator) -> Ranks:
        """Return the ranks that Accelerate's launcher, or ours, has started."""
        if accelerator.num_processes == 1:
            return cls()
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        return cls(accelerator.process_index, accelerator.num_processes, group)

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that prints and writes."""
        return self.index == 0

    @property
    def name(self) -> str:
        """Return which rank on which host this is, for messages."""
        return f"rank {self.index} of {self.count}, on {socket.gethostname()}"

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order; every rank must call it."""
        if self.group is None:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.group)
        return values

    def add_up(self, measures: Measures) -> Measures:
        """Return the measures of all ranks added up, the same on every rank."""
        total = Measures()
        for part in self.gather(measures.on_cpu()):
            total.update(part)
        return total

    def share_of(self, items: Sequence[T]) -> Sequence[T]:
        """Return this rank's contiguous block."""
        return items[len(items) * self.index // self.count : len(items) * (self.index + 1) // self.count]

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.gather(None)


def make_accelerator() -> Accelerator:
    """Return the Accelerator of this process, with what it must be left at.

    Raises:
        RunFileError: the environment asks for what is not supported.
    """
    refuse_what_is_not_supported()
    accelerator = Accelerator(
        # Without it, Accelerate takes several processes on a machine without an accelerator for as many runs of one.
        cpu=not torch.accelerator.is_available(),
        gradient_accumulation_steps=1,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    if accelerator.is_fsdp2 and accelerator.mixed_precision == "bf16":
        # Accelerate would add up gradients, and hand out log-probs, in bfloat16.
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        accelerator.state.fsdp_plugin.mixed_precision_policy = policy
    return accelerator


def leave() -> None:
    """Take leave of the other ranks, at the end of the process."""
    PartialState().destroy_process_group()
