"""A sample: what one line of `samples.jsonl` says about one rollout."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, NotRequired, TypedDict

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
    """Like the prompt, with all special tokens in it. Of several turns: all that follows the prompt, what the environment
    wrote included; a row that does not go on with the one before begins with a line feed and its own prompt."""
    turns: NotRequired[list[dict[str, Any]]]
    """Of a rollout with turns: role, text and reward of each message after the prompt."""
    failed: NotRequired[str]
    """Why a play failed. Such a rollout has no tokens."""
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
    made = Sample(
        step=step,
        phase=phase,
        set=of_set,
        policy_version=min(rollout["policy_versions"], default=None),
        prompt=visible(rollout["prompt_ids"]),
        completion=_completion(rollout, visible),
        reference=_as_json(example.get("reference", example.get("references"))),
        reward=rollout["reward"],
        rewards=dict(rollout["reward_components"]),
        advantage=sum(advantages) / len(advantages) if advantages else None,
        length=len(rollout["completion_ids"]),
        truncated=rollout["truncated"],
        group=group,
    )
    if "turns" in rollout:
        made["turns"] = [{name: turn[name] for name in ("role", "text", "reward")} for turn in rollout["turns"]]
        if (why := rollout.get("info", {}).get("failed")) is not None:
            made["failed"] = text_of(why)
    return made


def _completion(rollout: Rollout, visible: Callable[[Sequence[int]], str]) -> str:
    segments = rollout.get("segments")
    if not segments:
        return visible(rollout["completion_ids"])
    [first, *others] = (segment["ids"] for segment in segments)
    return "\n".join([visible(first[len(rollout["prompt_ids"]) :]), *map(visible, others)])


def _as_json(value: Any) -> Any:
    """Return a value as JSON has it. What JSON does not know, an environment may use all the same: it becomes its text."""
    try:
        found = plain(value)
        json.dumps(found)
    except (TypeError, ValueError, RecursionError):
        return text_of(value)
    return found
