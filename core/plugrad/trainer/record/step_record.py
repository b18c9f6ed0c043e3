"""The record of a step: one line of `metrics.jsonl`, from the rollouts, the updates and the cost of all ranks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plugrad.contracts.measures import Max, Mean, Measures, Sum
from plugrad.rollout.segments import num_tokens_read
from plugrad.trainer.batch.sampler import RolloutBatch
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.record.utilisation import Utilisation
from plugrad.trainer.update.step import StepOutcome

logger = logging.getLogger("plugrad")

Record = Mapping[str, float | int]

_known_to_be_nan: set[str] = set()
"""In this run, of which a process has one at a time."""


@dataclass(frozen=True)
class Cost:
    """What a step took on this rank."""

    seconds: float
    rollouts_s: float
    """The part of `seconds` in which the loop waited for rollouts."""
    memory_gib: float


def make_record(
    step: int,
    batch: RolloutBatch,
    updates: Sequence[StepOutcome],
    cost: Cost,
    ranks: Ranks,
    devices: Utilisation | None = None,
) -> dict[str, float | int]:
    """Return the record of a step, the same on every rank; each rank passes its own share.

    Args:
        devices: what the run computes on, where its peak is known.
    """
    shared, metrics = Measures(), Measures()
    for update in updates:
        shared.update(update.measures)
        metrics.update(update.metrics)
    work = ranks.add_up(_work(batch, cost)).values_by_name()
    plugins = ranks.add_up(metrics)
    _warn_of_nan(plugins, step)
    num_tokens = int(work["num_tokens"])
    used = devices.of_step(work["num_read"], num_tokens, work["seconds"], work["rollouts_s"]) if devices else {}
    core = {"step": step, **ranks.add_up(_rollouts(batch)).values_by_name(), **shared.values_by_name()}
    # Core's numbers come first, and a plugin's number of the same name cannot replace them.
    return {
        **core,
        **plugins.values_by_name(),
        **core,
        "num_tokens": num_tokens,
        "tokens_per_s": num_tokens / work["seconds"],
        "seconds": work["seconds"],
        "rollouts_s": work["rollouts_s"],
        "memory_gib": work["memory_gib"],
        **used,
    }


def _warn_of_nan(metrics: Measures, step: int) -> None:
    """Say once a run which metrics are NaN though something was counted."""
    if step == 1:
        _known_to_be_nan.clear()
    for name, measure in metrics.items():
        if name not in _known_to_be_nan and any(math.isnan(part) for part in vars(measure).values()):
            _known_to_be_nan.add(name)
            logger.warning(
                "The metric %r is nan at step %d: one NaN makes the whole step's value NaN, null in metrics.jsonl. "
                "Where a sequence has no value, the loss or metric %r can return None, which leaves it out.",
                name,
                step,
                name.partition("/")[0],
            )


def _rollouts(batch: RolloutBatch) -> Measures:
    """Return the rewards, the environment's own numbers, and how many rollouts were dropped and greedy plays failed."""
    measures = Measures({"reward": Mean.of(rollout["reward"] for rollout in batch.rollouts)})
    for rollout in batch.rollouts:
        measures.update({f"environment/{name}": Mean(float(value), 1.0) for name, value in rollout["metrics"].items()})
    if batch.greedy_failures:
        measures.add("failed_greedy_plays", Sum(len(batch.greedy_failures)))
    if batch.num_dropped:
        measures.add("dropped_rollouts", Sum(batch.num_dropped))
    return measures


def _work(batch: RolloutBatch, cost: Cost) -> Measures:
    """Return the tokens that were sampled, and time and memory of the slowest and the largest rank."""
    num_tokens = Sum(sum(len(rollout["completion_ids"]) for rollout in batch.rollouts))
    num_read = Sum(sum(num_tokens_read(rollout) for rollout in batch.rollouts))
    most = {name: Max(value) for name, value in vars(cost).items()}
    return Measures({"num_tokens": num_tokens, "num_read": num_read, **most})
