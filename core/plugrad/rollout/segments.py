"""The rows that models read of a rollout, and what belongs to their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from plugrad.contracts.rollout import Rollout, Segment


def segments_of(rollout: Rollout) -> list[Segment]:
    """Return the rows of a rollout: its segments, or the one of prompt and completion."""
    if "segments" in rollout:
        return rollout["segments"]
    prompt, completion = rollout["prompt_ids"], rollout["completion_ids"]
    return [Segment(ids=[*prompt, *completion], sampled=[False] * len(prompt) + [True] * len(completion))]


def num_tokens_read(rollout: Rollout) -> int:
    """Return the number of tokens in all rows of a rollout."""
    return sum(len(segment["ids"]) for segment in segments_of(rollout))


def longest_row(rollout: Rollout) -> int:
    """Return the number of tokens in the longest row of a rollout."""
    return max(len(segment["ids"]) for segment in segments_of(rollout))


def by_segment(segments: Sequence[Segment], values: Sequence[float]) -> Iterator[list[float]]:
    """Spread one number per sampled token of a rollout over its rows. All other tokens get 0."""
    following = iter(values)
    for segment in segments:
        yield [next(following) if sampled else 0.0 for sampled in segment["sampled"]]
