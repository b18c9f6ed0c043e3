"""The turns of a rollout as `samples.jsonl` has them: who said what, what was sampled, and which row it was read in."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NotRequired, TypedDict

from plugrad.contracts.rollout import Rollout, Segment, Turn
from plugrad.json_text import plain
from plugrad.shown import text_of


class SampleTurn(TypedDict):
    """An entry of `turns` of a sample: a message after the prompt."""

    role: str
    text: str
    reward: float | None
    """Of a reply alone."""
    length: int
    """Tokens that the policy sampled: those of a reply. What the environment said has none."""
    segment: NotRequired[int]
    """Of a reply: the number of its row among `segments`, from 0."""
    tool_calls: NotRequired[list[Mapping[str, Any]]]
    """What a reply asks tools for: `name`, `arguments` and `error` of each call."""


def turns_of(rollout: Rollout) -> list[SampleTurn]:
    """Return the turns of a rollout."""
    rows = rollout.get("segments", [])
    firsts = list(accumulate((sum(row["sampled"]) for row in rows), initial=0))[:-1]
    return [_turn(turn, firsts) for turn in rollout["turns"]]


def said_before(turns: Sequence[Turn]) -> list[SampleTurn]:
    """Return what was said in a play that failed. Nothing of it counts as sampled."""
    return [_turn({**turn, "start": 0, "stop": 0}, []) for turn in turns]


def prompts_of(segments: Sequence[Segment], visible: Callable[[Sequence[int]], str]) -> list[str]:
    """Return what each row has before its first reply."""
    return [visible(segment["ids"][: segment["sampled"].index(True)]) for segment in segments]


def _turn(turn: Turn, firsts: Sequence[int]) -> SampleTurn:
    made = SampleTurn(role=turn["role"], text=turn["text"], reward=turn["reward"], length=turn["stop"] - turn["start"])
    if made["length"]:
        made["segment"] = bisect_right(firsts, turn["start"]) - 1
    if "tool_calls" in turn:
        made["tool_calls"] = as_json(turn["tool_calls"])
    return made


def as_json(value: Any) -> Any:
    """Return a value as JSON has it. What JSON does not know becomes its text: an environment may use it all the same."""
    try:
        found = plain(value)
        json.dumps(found)
    except (TypeError, ValueError, RecursionError):
        return text_of(value)
    return found
