"""The learning-rate schedule, stepped once an update."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from plugrad.config.tables.optimizer_table import OptimizerTable


def make_lr_schedule(optimizer: Optimizer, table: OptimizerTable, num_updates: int) -> LRScheduler:
    """Return the schedule of `[optimizer]` over `num_updates` updates."""
    name = "constant_with_warmup" if table.schedule == "constant" else table.schedule
    schedule: LRScheduler = get_scheduler(
        name, optimizer, num_warmup_steps=table.warmup_updates, num_training_steps=num_updates
    )
    return schedule
