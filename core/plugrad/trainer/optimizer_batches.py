"""From a batch of rollouts to optimizer batches, each cut into micro-batches with its own counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plugrad.contracts.rollout import Rollout
from plugrad.policy.micro_batches import Layout, MicroBatch, TrainingSequence, cut
from plugrad.policy.weights import Counts
from plugrad.trainer.collect import RolloutBatch


@dataclass(frozen=True)
class OptimizerBatch:
    """Whole groups, as one update of the policy sees them."""

    groups: list[list[Rollout]]
    sequences: list[TrainingSequence]
    micro_batches: list[MicroBatch]


def optimizer_batches(
    batch: RolloutBatch, *, updates_per_batch: int, max_new_tokens: int, layout: Layout
) -> list[OptimizerBatch]:
    """Group g goes whole into optimizer batch g mod `updates_per_batch`."""
    num_groups = len(batch.groups)
    shares = [range(first, num_groups, updates_per_batch) for first in range(updates_per_batch)]
    return [_optimizer_batch(batch, share, max_new_tokens, layout) for share in shares]


def _optimizer_batch(batch: RolloutBatch, chosen: Sequence[int], max_new_tokens: int, layout: Layout) -> OptimizerBatch:
    sequences = [
        training_sequence(rollout, batch.advantages[g][j], batch.rewards[g][j], group_id=g)
        for g in chosen
        for j, rollout in enumerate(batch.groups[g])
    ]
    counts = Counts(
        tokens=sum(sequence.counted_tokens for sequence in sequences),
        sequences=len(sequences),
        groups=len(chosen),
        max_new_tokens=max_new_tokens,
    )
    return OptimizerBatch([batch.groups[g] for g in chosen], sequences, cut(sequences, counts, layout))


def training_sequence(rollout: Rollout, advantages: list[float], reward: float, group_id: int) -> TrainingSequence:
    """Lay prompt and completion into one row: every completion token counts, the end-of-sequence token too."""
    prompt, completion = rollout["prompt_ids"], rollout["completion_ids"]
    logprobs = rollout["inference_logprobs"]
    nothing = [0.0] * len(prompt)
    return TrainingSequence(
        input_ids=[*prompt, *completion],
        loss_mask=[False] * len(prompt) + [True] * len(completion),
        advantages=nothing + advantages,
        inference_logprobs=None if logprobs is None else nothing + logprobs,
        reward=reward,
        group_id=group_id,
        metadata=rollout["example"],
    )
