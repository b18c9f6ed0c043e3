"""A sample: what one line of `samples.jsonl` says about one rollout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NotRequired, TypedDict

from plugrad.contracts.rollout import Rollout
from plugrad.shown import text_of
from plugrad.trainer.batch.failed_plays import FAILED, SAID_BEFORE
from plugrad.trainer.samples.sample_turns import SampleTurn, as_json, prompts_of, said_before, turns_of

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
    turns: NotRequired[list[SampleTurn]]
    """Of a rollout with turns: each message after the prompt. Of a play that failed: until then."""
    segments: NotRequired[list[str]]
    """Of a rollout with several rows: what each has before its first reply."""
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
        reference=as_json(example.get("reference", example.get("references"))),
        reward=rollout["reward"],
        rewards=dict(rollout["reward_components"]),
        advantage=sum(advantages) / len(advantages) if advantages else None,
        length=len(rollout["completion_ids"]),
        truncated=rollout["truncated"],
        group=group,
    )
    if "turns" in rollout:
        info = rollout.get("info", {})
        made["turns"] = turns_of(rollout)
        if len(segments := rollout.get("segments", [])) > 1:
            made["segments"] = prompts_of(segments, visible)
        if (why := info.get(FAILED)) is not None:
            made["failed"], made["turns"] = text_of(why), said_before(info.get(SAID_BEFORE, []))
    return made


def _completion(rollout: Rollout, visible: Callable[[Sequence[int]], str]) -> str:
    segments = rollout.get("segments")
    if not segments:
        return visible(rollout["completion_ids"])
    [first, *others] = (segment["ids"] for segment in segments)
    return "\n".join([visible(first[len(rollout["prompt_ids"]) :]), *map(visible, others)])
