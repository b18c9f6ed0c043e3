"""The learning-rate schedule, stepped once an update."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.trainer_utils import SchedulerType

from plugrad.config.tables.optimizer_table import OptimizerTable
from plugrad.errors import OptionError
from plugrad.registry.options import check_options
from plugrad.registry.resolve import Source
from plugrad.registry.signature import with_less
from plugrad.shown import printable

OURS = ("optimizer", "num_warmup_steps", "num_training_steps", "last_epoch")
"""What a run sets of a schedule."""


def make_lr_schedule(optimizer: Optimizer, table: OptimizerTable, num_updates: int) -> LRScheduler:
    """Return the schedule of `[optimizer]` over `num_updates` updates."""
    schedule: LRScheduler = get_scheduler(
        _name(table),
        optimizer,
        num_warmup_steps=table.num_warmup_updates(num_updates),
        num_training_steps=num_updates,
        scheduler_specific_kwargs=table.schedule_kwargs,
    )
    return schedule


def check_lr_schedule(table: OptimizerTable, num_updates: int) -> None:
    """Check the options of the schedule against the signature of Transformers' function, and make it once.

    Raises:
        OptionError: the function does not take them, or the rates that come of them are none.
    """
    name = _name(table)
    function: Any = TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]
    source = Source("schedule", name, name, "transformers:get_scheduler")
    check_options(source, with_less(function, OURS), table.schedule_kwargs)
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=table.lr)
    found = f"[optimizer] schedule = {table.schedule!r} with {table.schedule_kwargs or 'no schedule_kwargs'}"
    try:
        (rate,) = make_lr_schedule(optimizer, table, num_updates).lr_lambdas  # type: ignore[attr-defined]
        places = {0, table.num_warmup_updates(num_updates), num_updates // 2, num_updates - 1}
        rates = [table.lr * rate(place) for place in sorted(places)]
    except Exception as error:
        raise OptionError(f"{found} cannot be used: {printable(error)}.") from error
    if not all(0 <= each < float("inf") for each in rates):
        raise OptionError(f"{found} gives learning rates that are none: {', '.join(map(str, rates))}.")


def _name(table: OptimizerTable) -> str:
    return "constant_with_warmup" if table.schedule == "constant" else table.schedule
