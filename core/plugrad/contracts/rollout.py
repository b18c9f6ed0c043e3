"""Rollout: what the policy wrote for one example, filled in by the engine and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict


class Turn(TypedDict):
    """A message of a rollout of several turns, after its prompt."""

    role: str
    """`assistant` for what the policy wrote; otherwise what the environment called its message."""
    text: str
    """As the environment saw or wrote it."""
    start: int
    """The place in `completion_ids` of the first token of a reply; of an environment's message, that of the next reply."""
    stop: int
    """The place after its last token. An environment's message has no token there: it was not sampled."""
    reward: float | None
    """What the environment gave for a reply alone."""
    tool_calls: NotRequired[list[dict[str, Any]]]
    """What a reply asks tools for, if it does: `name`, `arguments` and `error` of each call, as in `ToolCall`."""


class Segment(TypedDict):
    """One row that a model reads: prompt, replies, and what the environment wrote between them."""

    ids: list[int]
    """The tokens of the row, its prompt first."""
    sampled: list[bool]
    """Which of these tokens the policy sampled, and is trained on."""


class Rollout(TypedDict):
    """What the policy wrote for one example: one completion, or the replies of several turns.

    `completion_ids` holds the sampled tokens alone, those of all replies one after another. `inference_logprobs`,
    `policy_versions`, advantages and values per token have one entry for each of them, end-of-sequence tokens included.
    """

    prompt: str
    """The text of the prompt, as tokenized."""
    completion: str
    """What the model wrote, special tokens included, without the end-of-sequence token at its end. A stop string stays.
    `rollout.skip_special_tokens` leaves special tokens out."""
    prompt_ids: list[int]
    """The tokens of the prompt."""
    completion_ids: list[int]
    """The tokens of the completion, including the end-of-sequence token if there is one."""
    inference_logprobs: list[float] | None
    """Log-probs in nats from the engine that sampled the tokens. None for a replayed completion."""
    reward: float
    """NaN until the environment has scored the rollout."""
    reward_components: dict[str, float]
    """The named components of its score, if the environment returned a mapping. Other rollouts may have others."""
    truncated: bool
    """True if the completion ended at `max_new_tokens`, not with an end-of-sequence token."""
    example: Mapping[str, Any]
    """The columns of the example, including its `example_id`."""
    metrics: dict[str, float]
    """Numbers that the environment reports. They do not affect the reward."""
    policy_versions: list[int]
    """The number of weight updates behind each sampled token."""
    turns: NotRequired[list[Turn]]
    """All messages after the prompt, in order. Without it, the completion is the only one."""
    segments: NotRequired[list[Segment]]
    """The rows that models read. Their sampled tokens, one row after another, are `completion_ids`. Several, where a chat
    template rewrote what came before. Without it, the only row is prompt and completion."""
    trajectory: NotRequired[list[Any]]
    """Reserved for rollouts in the form of another trainer."""
    info: NotRequired[dict[str, Any]]
    """Anything that an environment keeps with the rollout. plugrad does not read it."""
