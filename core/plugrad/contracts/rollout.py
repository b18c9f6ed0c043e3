"""Rollout: one completion of one prompt, filled in by the engine and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict


class Rollout(TypedDict):
    """One completion of one prompt.

    `inference_logprobs` and `policy_versions` have one entry per completion token, including the end-of-sequence token.
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
    trajectory: NotRequired[list[Any]]
    """Reserved for multi-turn rollouts. Nothing supplies it yet."""
    info: NotRequired[dict[str, Any]]
    """Anything that an environment keeps with the rollout. plugrad does not read it."""
