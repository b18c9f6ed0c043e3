"""What a step reports: the metrics' inputs put together again, and the record for `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping

import pluggy
import torch
from torch import Tensor

from plugrad.contracts.measures import Measures
from plugrad.contracts.metric import MetricInputs
from plugrad.trainer.optimizer_batches import OptimizerBatch
from plugrad.trainer.step import StepOutcome


def measure(batch: OptimizerBatch, outcome: StepOutcome, hooks: pluggy.HookRelay, step: int) -> Measures:
    """Call the metrics on one optimizer batch, and add what the losses measured."""
    measures = Measures(outcome.measures)
    found: Mapping[str, object] = hooks.compute_metrics(inputs=metric_inputs(batch, outcome, step))
    measures.update(found)  # type: ignore[arg-type]
    return measures


def metric_inputs(batch: OptimizerBatch, outcome: StepOutcome, step: int) -> MetricInputs:
    """Put the rows of the micro-batches back into the order of the rollouts, padded to one width."""
    shape = (len(batch.sequences), max((len(s.input_ids) for s in batch.sequences), default=0))
    replayed = any(sequence.inference_logprobs is None for sequence in batch.sequences)

    def gathered(name: str) -> Tensor | None:
        parts = [(micro_batch.rows, getattr(inputs, name)) for micro_batch, inputs in outcome.scored if micro_batch.rows]
        if any(values is None for _, values in parts) or (not parts and name != "loss_mask"):
            return None if parts else torch.zeros(shape)
        return _in_order(parts, shape)

    trainer_logprobs, loss_mask, advantages = gathered("trainer_logprobs"), gathered("loss_mask"), gathered("advantages")
    assert trainer_logprobs is not None and loss_mask is not None and advantages is not None
    return MetricInputs(
        rollouts=batch.groups,
        rewards=torch.tensor([rollout["reward"] for group in batch.groups for rollout in group]),
        advantages=advantages,
        loss_mask=loss_mask.bool(),
        trainer_logprobs=trainer_logprobs,
        inference_logprobs=None if replayed else gathered("inference_logprobs"),
        group_ids=torch.tensor([sequence.group_id for sequence in batch.sequences]),
        entropy=gathered("entropy"),
        old_logprobs=gathered("old_logprobs"),
        ref_logprobs=gathered("ref_logprobs"),
        step=step,
    )


def _in_order(parts: list[tuple[list[int], Tensor]], shape: tuple[int, int]) -> Tensor:
    if not parts:
        return torch.zeros(shape)
    whole = parts[0][1].new_zeros(shape)
    for rows, values in parts:
        whole[rows, : values.shape[1]] = values
    return whole
