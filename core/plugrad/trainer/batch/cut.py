"""Cut a batch of rollouts into optimizer batches, and each of them into micro-batches with shared counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plugrad.contracts.environment import Example
from plugrad.contracts.rollout import Rollout
from plugrad.contracts.where import Where
from plugrad.policy.micro_batches import Layout, MicroBatch, TrainingSequence, cut, nothing
from plugrad.policy.reductions import Counts, total
from plugrad.rollout.segments import by_segment, segments_of
from plugrad.trainer.batch.sampler import RolloutBatch
from plugrad.trainer.ranks.ranks import Ranks

FIELDS = {"values": "old_values"}
"""What losses call a score of the rollouts, where advantages call it otherwise."""


@dataclass(frozen=True)
class OptimizerBatch:
    """One rank's share of what one update of the policy trains on: whole groups."""

    groups: list[list[Rollout]]
    sequences: list[TrainingSequence]
    micro_batches: list[MicroBatch] = field(default_factory=list)
    """Empty until the batch is cut."""

    def counts(self, max_new_tokens: int, wheres: Mapping[str, Where]) -> Counts:
        """Return what the reductions divide by, for this rank alone."""
        return replace(
            _counts(self.sequences, max_new_tokens),
            of_losses={
                label: _counts([s for s in self.sequences if where.holds(s.metadata)], max_new_tokens)
                for label, where in wheres.items()
            },
        )


@dataclass(frozen=True)
class Cutting:
    """How every batch of a run is cut."""

    updates_per_batch: int
    max_new_tokens: int
    layout: Layout
    teacher_prompt: Callable[[Example], list[int] | None] = lambda _: None
    """Returns what an example's teacher reads in place of the prompt."""
    wheres: Mapping[str, Where] = field(default_factory=dict)
    """By the labels of the losses that count some examples alone."""

    def cut(self, batch: RolloutBatch, ranks: Ranks) -> list[OptimizerBatch]:
        """Put group g, counted over all ranks, whole into optimizer batch g mod `updates_per_batch`.

        The counts are summed over all ranks, and every rank gets the same number of micro-batches.
        """
        uncut = [self._optimizer_batch(batch, number) for number in range(self.updates_per_batch)]
        cuts = [cut(part.sequences, part.counts(self.max_new_tokens, self.wheres), self.layout) for part in uncut]
        everywhere = zip(*ranks.gather([(micro[0].counts, len(micro)) for micro in cuts]), strict=True)
        return [
            replace(part, micro_batches=_as_everywhere(micro, counts_and_numbers, self.layout))
            for part, micro, counts_and_numbers in zip(uncut, cuts, everywhere, strict=True)
        ]

    def _optimizer_batch(self, batch: RolloutBatch, number: int) -> OptimizerBatch:
        first = (number - batch.first_group) % self.updates_per_batch
        chosen = range(first, len(batch.groups), self.updates_per_batch)
        groups = [batch.groups[g] for g in chosen]
        prompts = [self.teacher_prompt(group[0]["example"]) if group else None for group in groups]
        sequences = [
            replace(sequence, teacher_prompt=prompt)
            for g, prompt in zip(chosen, prompts, strict=True)
            for j in range(len(batch.groups[g]))
            for sequence in _sequences(batch, g, j)
        ]
        return OptimizerBatch(groups, sequences)


def _sequences(batch: RolloutBatch, group: int, member: int) -> Iterator[TrainingSequence]:
    """Yield the rows of a rollout: prompt and completion, or its segments. Every sampled token counts."""
    rollout, logprobs = batch.groups[group][member], batch.groups[group][member]["inference_logprobs"]
    of_tokens = {FIELDS.get(name, name): rows[group][member] for name, rows in batch.scores.items()}
    of_tokens["advantages"] = batch.advantages[group][member]
    if batch.returns is not None:
        of_tokens["returns"] = batch.returns[group][member]
    if logprobs is not None:
        of_tokens["inference_logprobs"] = logprobs
    segments = segments_of(rollout)
    # The value after the last token belongs to no token, and is not read.
    spread = {name: list(by_segment(segments, values)) for name, values in of_tokens.items()}
    for place, segment in enumerate(segments):
        fixed = {name: rows[place] for name, rows in spread.items()}
        yield TrainingSequence(
            input_ids=segment["ids"],
            loss_mask=segment["sampled"],
            advantages=fixed.pop("advantages"),
            inference_logprobs=fixed.pop("inference_logprobs", None),
            reward=batch.rewards[group][member],
            group_id=batch.first_group + group,
            member=member,
            # A copy: what a loss writes into it stays in this batch.
            metadata=dict(rollout["example"]),
            fixed=fixed,
        )


def _counts(sequences: Sequence[TrainingSequence], max_new_tokens: int) -> Counts:
    return Counts(
        tokens=sum(sequence.counted_tokens for sequence in sequences),
        sequences=len({sequence.rollout for sequence in sequences}),
        groups=len({sequence.group_id for sequence in sequences}),
        max_new_tokens=max_new_tokens,
    )


def _as_everywhere(
    micro_batches: list[MicroBatch], counts_and_numbers: Sequence[tuple[Counts, int]], layout: Layout
) -> list[MicroBatch]:
    """Give micro-batches the counts of all ranks, and fill up with empty ones to the number on the busiest rank."""
    counts = total([counts for counts, _ in counts_and_numbers])
    missing = max(number for _, number in counts_and_numbers) - len(micro_batches)
    return [replace(m, counts=counts) for m in micro_batches] + [nothing(counts, layout)] * missing
