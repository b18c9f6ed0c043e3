"""What a step reports: the metrics' inputs put together again, and the record for `metrics.jsonl`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.measures import Measures
from plugrad.contracts.metric import MetricInputs
from plugrad.host.hooks import Hooks
from plugrad.trainer.optimizer_batches import OptimizerBatch
from plugrad.trainer.step import StepOutcome

COLUMNS = (
    "trainer_logprobs",
    "advantages",
    "loss_mask",
    "inference_logprobs",
    "entropy",
    "old_logprobs",
    "ref_logprobs",
)


def measure(batch: OptimizerBatch, outcome: StepOutcome, hooks: Hooks, step: int) -> Measures:
    """Call the metrics on one optimizer batch, and add what the losses measured."""
    measures = Measures(outcome.measures)
    measures.update(hooks.compute_metrics(metric_inputs(batch, outcome, step)))
    return measures


def metric_inputs(batch: OptimizerBatch, outcome: StepOutcome, step: int) -> MetricInputs:
    """Put the rows of the micro-batches back into the order of the rollouts, padded to one width."""
    shape = (len(batch.sequences), max(len(sequence.input_ids) for sequence in batch.sequences))
    replayed = any(sequence.inference_logprobs is None for sequence in batch.sequences)
    columns: dict[str, Any] = {name: _in_order(name, outcome, shape) for name in COLUMNS}
    if replayed:
        columns["inference_logprobs"] = None
    device = columns["loss_mask"].device
    return MetricInputs(
        rollouts=batch.groups,
        rewards=torch.tensor([rollout["reward"] for group in batch.groups for rollout in group], device=device),
        group_ids=torch.tensor([sequence.group_id for sequence in batch.sequences], device=device),
        step=step,
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
