"""Rollout: one completion of one prompt, as engines and environments fill it in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict


class Rollout(TypedDict):
    """One completion of one prompt.

    `inference_logprobs` and `policy_versions` have one entry per completion token, the end-of-sequence token included.
    """

    prompt: str
    """The prompt's text, as it was tokenized."""
    completion: str
    """The completion's text, without special tokens."""
    prompt_ids: list[int]
    """The prompt's tokens."""
    completion_ids: list[int]
    """The completion's tokens, the end-of-sequence token included where there is one."""
    inference_logprobs: list[float] | None
    """Log-probs in nats from the engine that sampled the tokens; None where a recorded completion was replayed."""
    reward: float
    """NaN until the environment has scored the rollout."""
    reward_components: dict[str, float]
    """The named components of the score, where the environment gave a mapping."""
    truncated: bool
    """True where the completion ended at `max_new_tokens` and not with an end-of-sequence token."""
    example: Mapping[str, Any]
    """The example's columns, and its `example_id`."""
    metrics: dict[str, float]
    """Numbers that the environment wants reported; they do not count towards the reward."""
    policy_versions: list[int]
    """The number of weight updates behind each sampled token."""
    trajectory: NotRequired[list[Any]]
    """Reserved for rollouts of several turns; nothing supplies it yet."""
    info: NotRequired[dict[str, Any]]
    """Anything that an environment wants to keep with the rollout; plugrad does not read it."""
