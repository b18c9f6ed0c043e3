"""What a step reports: the metrics' inputs put together again, and the record for `metrics.jsonl`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.measures import Max, Mean, Measures, Sum
from plugrad.contracts.metric import MetricInputs
from plugrad.host.hooks import Hooks
from plugrad.trainer.batch.cut import OptimizerBatch
from plugrad.trainer.batch.sampler import RolloutBatch
from plugrad.trainer.update.step import Progress, StepOutcome

COLUMNS = (
    "trainer_logprobs",
    "advantages",
    "loss_mask",
    "inference_logprobs",
    "entropy",
    "old_logprobs",
    "ref_logprobs",
)


def measure(batch: OptimizerBatch, outcome: StepOutcome, hooks: Hooks, progress: Progress) -> Measures:
    """Call the metrics on this rank's share of an optimizer batch, and add what the losses measured on it."""
    measures = Measures(outcome.metrics)
    if batch.sequences:
        measures.update(hooks.compute_metrics(metric_inputs(batch, outcome, progress)))
    return measures


@dataclass(frozen=True)
class Cost:
    """What a step has taken on this rank."""

    seconds: float
    rollouts_s: float
    """Of these, the seconds in which the loop waited for rollouts."""
    memory_gib: float


def measure_batch(batch: RolloutBatch, cost: Cost) -> Measures:
    """Return what a step's record says of this rank: rewards, the environment's own numbers, tokens, time and memory."""
    measures = Measures({"reward": Mean.of(rollout["reward"] for rollout in batch.rollouts)})
    for rollout in batch.rollouts:
        measures.update({f"environment/{name}": Mean(float(value), 1.0) for name, value in rollout["metrics"].items()})
    if batch.num_dropped:
        measures.add("dropped_rollouts", Sum(batch.num_dropped))
    measures.add("num_tokens", Sum(sum(len(rollout["completion_ids"]) for rollout in batch.rollouts)))
    # A step has taken as long as its slowest rank.
    for name, value in vars(cost).items():
        measures.add(name, Max(value))
    return measures


def make_record(step: int, rollouts: Measures, updates: Measures, measured: Measures) -> dict[str, float | int]:
    """Return the line of `metrics.jsonl`: of the rollouts of all ranks, of the updates, and what plugins measured."""
    own = rollouts.values_by_name()
    num_tokens, cost = int(own.pop("num_tokens")), {name: own.pop(name) for name in Cost.__dataclass_fields__}
    ours = {"step": step + 1, **own, **updates.values_by_name()}
    # A plugin's number cannot take the place of one of ours.
    return {
        **ours,
        **measured.values_by_name(),
        **ours,
        "num_tokens": num_tokens,
        "tokens_per_s": num_tokens / cost["seconds"],
        **cost,
    }


def metric_inputs(batch: OptimizerBatch, outcome: StepOutcome, progress: Progress) -> MetricInputs:
    """Put the rows of the micro-batches back into the order of the rollouts, padded to one width."""
    shape = (len(batch.sequences), max(len(sequence.input_ids) for sequence in batch.sequences))
    replayed = any(sequence.inference_logprobs is None for sequence in batch.sequences)
    columns: dict[str, Any] = {name: _in_order(name, outcome, shape) for name in COLUMNS}
    if replayed:
        columns["inference_logprobs"] = None
    advantages = columns["advantages"]
    rewards = [rollout["reward"] for group in batch.groups for rollout in group]
    return MetricInputs(
        rollouts=batch.groups,
        rewards=advantages.new_tensor(rewards),
        group_ids=torch.tensor([sequence.group_id for sequence in batch.sequences], device=advantages.device),
        step=progress.step,
        policy_version=progress.version,
        **columns,
    )


def _in_order(name: str, outcome: StepOutcome, shape: tuple[int, int]) -> Tensor | None:
    """Gather one field of the losses' inputs; rows that were in no micro-batch are zero."""
    whole: Tensor | None = None
    for micro_batch, inputs in outcome.scored:
        values: Tensor | None = getattr(inputs, name)
        if values is None:
            return None
        whole = values.new_zeros(shape) if whole is None else whole
        whole[micro_batch.rows, : values.shape[1]] = values[: len(micro_batch.rows), : shape[1]]
    return whole
