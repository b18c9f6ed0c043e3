"""Batches that were sampled ahead, in a checkpoint: on resuming they are not sampled again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from plugrad.contracts.environment import Example
from plugrad.contracts.rollout import Rollout
from plugrad.trainer.batch.sampler import RolloutBatch
from plugrad.trainer.ranks.ranks import Ranks


def kept(batch: RolloutBatch) -> dict[str, Any]:
    """Return what a checkpoint keeps of one rank's batch. Examples are not kept: their order is known."""
    groups = [
        [{key: value for key, value in rollout.items() if key != "example"} for rollout in group] for group in batch.groups
    ]
    return {
        "groups": groups,
        "greedy_rewards": batch.greedy_rewards,
        "greedy_failures": list(batch.greedy_failures),
        "num_dropped": batch.num_dropped,
    }


def restored(
    batches_of_ranks: Sequence[Sequence[dict[str, Any]]], batches: Iterable[Sequence[Example]], ranks: Ranks
) -> list[RolloutBatch]:
    """Return this rank's share of the kept batches, which any number of ranks may have written.

    Args:
        batches_of_ranks: what each of those ranks kept, in order; one may have got further than another.
        batches: the examples of these steps, over all ranks.
        ranks: of this run.
    """
    return [
        _share(parts, examples, ranks)
        for parts, examples in zip(zip(*batches_of_ranks, strict=False), batches, strict=False)
    ]


def _share(parts: Sequence[dict[str, Any]], examples: Sequence[Example], ranks: Ranks) -> RolloutBatch:
    groups = [group for part in parts for group in part["groups"]]
    whole = [[_with_example(rollout, example) for rollout in group] for group, example in zip(groups, examples, strict=True)]
    greedy = [reward for part in parts for reward in part["greedy_rewards"] or []]
    dropped = sum(part["num_dropped"] for part in parts)
    batch = RolloutBatch(list(ranks.share_of(whole)), num_dropped=dropped if ranks.is_main else 0)
    if not greedy:
        return batch
    # A checkpoint of an earlier version has none.
    failures = [why for part in parts for why in part.get("greedy_failures", ())]
    return replace(batch, greedy_rewards=list(ranks.share_of(greedy)), greedy_failures=list(ranks.share_of(failures)))


def _with_example(rollout: dict[str, Any], example: Example) -> Rollout:
    found: Rollout = {**rollout, "example": example}  # type: ignore[typeddict-item]
    return found
