"""What models make of rollouts before the first update: log-probs and values, for advantages and for losses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.scored import Scored, Wanted
from plugrad.trainer.batch.cut import Cutting, OptimizerBatch
from plugrad.trainer.batch.sampler import RolloutBatch
from plugrad.trainer.update.fixed_scores import fixed_logprobs
from plugrad.trainer.update.learner import Learner

Rows = list[list[list[float]]]
"""By group and rollout: one number per completion token, or one more."""


def with_scores(batch: RolloutBatch, learner: Learner, cutting: Cutting) -> RolloutBatch:
    """Let the models score this rank's rollouts, if an advantage or a loss reads what they make of them.

    Every rank calls it. All of them make the same number of passes.
    """
    fields = learner.scores_first
    if not fields:
        return batch
    # One batch of everything: nothing is divided here.
    everything = replace(cutting, updates_per_batch=1, wheres={})
    empty = [[[0.0] * len(rollout["completion_ids"]) for rollout in group] for group in batch.groups]
    uncounted = replace(batch, advantages=empty, rewards=[[0.0] * len(group) for group in batch.groups])
    [part] = everything.cut(uncounted, learner.ranks)
    found: dict[str, dict[int, list[float]]] = {name: {} for name in fields}
    for micro_batch in part.micro_batches:
        for name, rows in _scored(learner, micro_batch, fields):
            found[name].update(rows)
    learner.put_away()
    return replace(batch, scores={name: _by_group(batch, part, name, rows) for name, rows in found.items()})


@torch.no_grad()
def _scored(
    learner: Learner, micro_batch: MicroBatch, fields: Collection[str]
) -> Iterator[tuple[str, dict[int, list[float]]]]:
    """Yield what each field is for the rows of a micro-batch, by their index in the batch."""
    on_device = micro_batch.to(learner.accelerator.device)
    rows = (on_device.input_ids, on_device.attention_mask, on_device.loss_mask)
    if {"values", "old_logprobs"} & set(fields):
        scored: Scored = learner.policy(*rows, Wanted(values="values" in fields))
        if "old_logprobs" in fields:
            yield "old_logprobs", _of_rows(micro_batch, scored.logprobs)
        if scored.values is not None and scored.last_value is not None:
            ends = scored.last_value.tolist()
            values = _of_rows(micro_batch, scored.values)
            yield "values", {row: [*values[row], ends[place]] for place, row in enumerate(micro_batch.rows)}
    for name in sorted(set(fields) - {"values", "old_logprobs"}):
        yield name, _of_rows(micro_batch, fixed_logprobs(learner, on_device, name))


def _of_rows(micro_batch: MicroBatch, values: Tensor) -> dict[int, list[float]]:
    """Return the values at counted tokens, by the index of the row in the batch."""
    counted = micro_batch.loss_mask.to(values.device)
    return {row: values[place][counted[place]].tolist() for place, row in enumerate(micro_batch.rows)}


def _by_group(batch: RolloutBatch, part: OptimizerBatch, name: str, rows: dict[int, list[float]]) -> Rows:
    """Lay rows out by group, those of one rollout joined. One without tokens has no log-prob, and a state of value 0."""
    of_rollouts: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    for place, sequence in enumerate(part.sequences):
        if place in rows:
            joined = of_rollouts[sequence.rollout]
            # Only the last state of a rollout is after its last token.
            del joined[len(joined) - (name == "values") :]
            joined.extend(rows[place])
    nothing = [0.0] if name == "values" else []
    return [
        [of_rollouts.get((batch.first_group + place, member), nothing) for member in range(len(group))]
        for place, group in enumerate(batch.groups)
    ]
