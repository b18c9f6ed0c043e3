"""The inputs of metrics: one rank's optimizer batch, put back together from its micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.metric import MetricInputs
from plugrad.host.received import copies_of_groups
from plugrad.trainer.batch.cut import OptimizerBatch
from plugrad.trainer.update.run_progress import Progress

COLUMNS = (
    "trainer_logprobs",
    "advantages",
    "loss_mask",
    "inference_logprobs",
    "entropy",
    "old_logprobs",
    "ref_logprobs",
    "values",
    "old_values",
    "returns",
)


ScoredRows = Sequence[tuple[list[int], BatchLossInputs]]
"""By micro-batch: the index of each of its rows in the batch, and what the losses get of them, detached."""


def metric_inputs(batch: OptimizerBatch, scored: ScoredRows, progress: Progress) -> MetricInputs:
    """Put the rows of the micro-batches back into the order of the rollouts, padded to one width."""
    shape = (len(batch.sequences), max(len(sequence.input_ids) for sequence in batch.sequences))
    replayed = any(sequence.inference_logprobs is None for sequence in batch.sequences)
    columns: dict[str, Any] = {name: _in_order(name, scored, shape) for name in COLUMNS}
    if replayed:
        columns["inference_logprobs"] = None
    advantages = columns["advantages"]
    rewards = [rollout["reward"] for group in batch.groups for rollout in group]
    return MetricInputs(
        # Copies: the record of the step reads the rollouts after the metrics.
        rollouts=copies_of_groups(batch.groups),
        rewards=advantages.new_tensor(rewards),
        group_ids=torch.tensor([sequence.group_id for sequence in batch.sequences], device=advantages.device),
        step=progress.step,
        policy_version=progress.version,
        **columns,
    )


def _in_order(name: str, scored: ScoredRows, shape: tuple[int, int]) -> Tensor | None:
    """Gather one field of the losses' inputs. Rows that are in no micro-batch are zero."""
    whole: Tensor | None = None
    for rows, inputs in scored:
        values: Tensor | None = getattr(inputs, name)
        if values is None:
            return None
        whole = values.new_zeros(shape) if whole is None else whole
        whole[rows, : values.shape[1]] = values[: len(rows), : shape[1]]
    return whole
