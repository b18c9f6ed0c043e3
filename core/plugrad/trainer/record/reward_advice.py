"""Advice at the end of a run whose reward did not rise."""

from __future__ import annotations

import math
from statistics import fmean, stdev

from plugrad.run_result import RunResult

FEWEST_STEPS = 10
"""A shorter run says nothing about learning, unless no reward differs from another."""
NOISE = 2.0
"""A change counts if it exceeds this many standard errors."""
PAGE = "docs/questions.md"


def advice_on_reward(result: RunResult) -> str:
    """Return where to read on if every reward was the same, if it did not rise, or if it fell; otherwise nothing.

    A run that replays references samples nothing, so its reward cannot rise, and one that has another signal learns though
    every reward is the same. They get no advice on that.
    """
    rewards = [value for _, value in result.series("reward") if math.isfinite(value)]
    samples = bool(result.series("inference_mismatch/parity"))
    if len(rewards) < 2:
        return ""
    if max(rewards) == min(rewards):
        return (
            ""
            if not result.learns_from_rewards
            else (
                f'The reward was {rewards[0]:.3f} in every step, so there was nothing to learn from: see "Why is my reward '
                f'flat?" in {PAGE}.'
            )
        )
    if len(rewards) < FEWEST_STEPS or not samples:
        return ""
    quarter = max(3, len(rewards) // 4)
    first, last = rewards[:quarter], rewards[-quarter:]
    error = math.sqrt((stdev(first) ** 2 + stdev(last) ** 2) / quarter)
    change = fmean(last) - fmean(first)
    if change < -NOISE * error:
        return f'The reward fell: see "Why does my reward fall?" in {PAGE}.'
    if change <= NOISE * error:
        return f'The reward did not rise beyond its noise: see "Why is my reward flat?" in {PAGE}.'
    return ""
