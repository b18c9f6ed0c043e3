"""The steps of a rollout in the layout of `verifiers`: one for each reply, with the very tokens that it followed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from plugrad import Rollout
from plugrad.contracts.rollout import Segment, Turn

Step = dict[str, Any]
REPLY = "assistant"


def trajectory_of(rollout: Rollout) -> list[Step]:
    """Return one step for each reply of the policy, in order; for a single-turn rollout, its one step."""
    turns, segments = rollout.get("turns"), rollout.get("segments")
    if not turns or not segments:
        ids, logprobs = rollout["completion_ids"], rollout["inference_logprobs"]
        tokens = _tokens(rollout["prompt_ids"], ids, logprobs, is_truncated=rollout["truncated"])
        return [_step(rollout["prompt"], rollout["completion"], rollout["reward"], 0, tokens)]
    return _steps(rollout, turns, segments)


def _steps(rollout: Rollout, turns: Sequence[Turn], segments: Sequence[Segment]) -> list[Step]:
    rows = [[place for place, counts in enumerate(row["sampled"]) if counts] for row in segments]
    firsts = list(accumulate(map(len, rows), initial=0))
    last = max(place for place, turn in enumerate(turns) if turn["role"] == REPLY)
    texts = {0: rollout["prompt"]}
    steps, unread = [], ""
    for place, turn in enumerate(turns):
        if turn["role"] != REPLY:
            unread = f"{unread}\n{turn['text']}"
            continue
        number = max(row for row, first in enumerate(firsts[:-1]) if first <= turn["start"])
        prompt = (texts.get(number, "") + unread).removeprefix("\n")
        begins = rows[number][turn["start"] - firsts[number]]
        span = slice(turn["start"], turn["stop"])
        logprobs = rollout["inference_logprobs"]
        tokens = _tokens(
            segments[number]["ids"][:begins],
            rollout["completion_ids"][span],
            None if logprobs is None else logprobs[span],
            is_truncated=rollout["truncated"] and place == last,
        )
        steps.append(_step(prompt, turn["text"], turn["reward"], number, tokens))
        texts[number], unread = f"{prompt}\n{turn['text']}", ""
    return steps


def _tokens(
    prompt_ids: list[int], completion_ids: list[int], logprobs: list[float] | None, *, is_truncated: bool
) -> dict[str, Any]:
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": [0] * len(prompt_ids),
        "completion_ids": completion_ids,
        "completion_mask": [1] * len(completion_ids),
        "completion_logprobs": logprobs,
        "overlong_prompt": False,
        "is_truncated": is_truncated,
    }


def _step(prompt: str, completion: str, reward: float | None, row: int, tokens: dict[str, Any]) -> Step:
    return {
        "prompt": prompt,
        "completion": completion,
        "reward": reward,
        "advantage": None,
        "is_truncated": tokens["is_truncated"],
        "trajectory_id": str(row),
        "extras": {},
        "tokens": tokens,
    }
