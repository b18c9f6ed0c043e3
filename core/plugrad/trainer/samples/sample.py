"""A sample: what one line of `samples.jsonl` says about one rollout."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

from plugrad.contracts.rollout import Rollout
from plugrad.json_text import plain
from plugrad.shown import text_of

Phase = Literal["training", "evaluation"]


class Sample(TypedDict):
    """One line of `samples.jsonl`."""

    step: int
    """Counted from 1; 0 is the evaluation before training."""
    phase: Phase
    set: str | None
    """The name of the held-out set, if it has one."""
    policy_version: int | None
    """The number of weight updates behind the oldest token. None for a completion without a token."""
    prompt: str
    completion: str
    """Like the prompt, with all special tokens in it."""
    reference: Any
    """The example's column `reference`, or `references`; None without one."""
    reward: float
    """As the environment scored it."""
    rewards: dict[str, float]
    """Its components, if the environment named them."""
    advantage: float | None
    """The mean over the completion's tokens. None in an evaluation."""
    length: int
    """Tokens of the completion."""
    truncated: bool
    group: int
    """The place of the example in the batch, over all ranks."""


def make_sample(
    rollout: Rollout,
    visible: Callable[[Sequence[int]], str],
    *,
    step: int,
    phase: Phase,
    of_set: str | None,
    group: int,
    advantages: Sequence[float] | None,
) -> Sample:
    """Return the sample of a rollout.

    Args:
        rollout: scored.
        visible: returns the text of tokens with all special tokens.
        step: how many steps were done, this one included.
        phase: whether it is trained on or evaluated.
        of_set: the held-out set.
        group: its place in the batch.
        advantages: one per completion token.
    """
    example = rollout["example"]
    return Sample(
        step=step,
        phase=phase,
        set=of_set,
        policy_version=min(rollout["policy_versions"], default=None),
        prompt=visible(rollout["prompt_ids"]),
        completion=visible(rollout["completion_ids"]),
        reference=_as_json(example.get("reference", example.get("references"))),
        reward=rollout["reward"],
        rewards=dict(rollout["reward_components"]),
        advantage=sum(advantages) / len(advantages) if advantages else None,
        length=len(rollout["completion_ids"]),
        truncated=rollout["truncated"],
        group=group,
    )


def _as_json(value: Any) -> Any:
    """Return a value as JSON has it. What JSON does not know, an environment may use all the same: it becomes its text."""
    try:
        found = plain(value)
        json.dumps(found)
    except (TypeError, ValueError, RecursionError):
        return text_of(value)
    return found
