"""From a batch of rollouts to optimizer batches, each cut into micro-batches with its own counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plugrad.contracts.rollout import Rollout
from plugrad.policy.micro_batches import Layout, MicroBatch, TrainingSequence, cut, nothing
from plugrad.policy.reductions import Counts, total
from plugrad.trainer.batch.sampler import RolloutBatch
from plugrad.trainer.ranks.ranks import Ranks


@dataclass(frozen=True)
class OptimizerBatch:
    """One rank's share of what one update of the policy sees: whole groups."""

    groups: list[list[Rollout]]
    sequences: list[TrainingSequence]
    micro_batches: list[MicroBatch]


def optimizer_batches(
    batch: RolloutBatch, *, updates_per_batch: int, max_new_tokens: int, layout: Layout, ranks: Ranks
) -> list[OptimizerBatch]:
    """Group g, counted over all ranks, goes whole into optimizer batch g mod `updates_per_batch`.

    The counts are those of all ranks, and every rank gets the same number of micro-batches.
    """
    local = [
        _local_batch(batch, range((first - batch.first_group) % updates_per_batch, len(batch.groups), updates_per_batch))
        for first in range(updates_per_batch)
    ]
    cuts = [cut(own.sequences, own.counts(max_new_tokens), layout) for own in local]
    everywhere = zip(*ranks.gather([(micro[0].counts, len(micro)) for micro in cuts]), strict=True)
    return [
        OptimizerBatch(own.groups, own.sequences, _as_everywhere(micro, counts_and_numbers, layout))
        for own, micro, counts_and_numbers in zip(local, cuts, everywhere, strict=True)
    ]


@dataclass(frozen=True)
class _LocalBatch:
    groups: list[list[Rollout]]
    sequences: list[TrainingSequence]

    def counts(self, max_new_tokens: int) -> Counts:
        return Counts(
            tokens=sum(sequence.counted_tokens for sequence in self.sequences),
            sequences=len(self.sequences),
            groups=len(self.groups),
            max_new_tokens=max_new_tokens,
        )


def _local_batch(batch: RolloutBatch, chosen: Sequence[int]) -> _LocalBatch:
    sequences = [
        training_sequence(rollout, batch.advantages[g][j], batch.rewards[g][j], group_id=batch.first_group + g)
        for g in chosen
        for j, rollout in enumerate(batch.groups[g])
    ]
    return _LocalBatch([batch.groups[g] for g in chosen], sequences)


def _as_everywhere(
    micro_batches: list[MicroBatch], counts_and_numbers: Sequence[tuple[Counts, int]], layout: Layout
) -> list[MicroBatch]:
    """Give micro-batches the counts of all ranks, and this rank as many of them as the rank that has most."""
    counts = total([counts for counts, _ in counts_and_numbers])
    missing = max(number for _, number in counts_and_numbers) - len(micro_batches)
    return [replace(m, counts=counts) for m in micro_batches] + [nothing(counts, layout)] * missing


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
