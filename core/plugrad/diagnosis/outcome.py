"""Whether the reward of a run rose: most of what looks odd in the records does no harm to a run that learns."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from plugrad.contracts.run_records import RunRecords, Series

FEWEST_STEPS = 10
"""A shorter run says nothing about learning."""
NOISE = 2.0
"""A change counts if it exceeds this many standard errors."""
SIGMAS = 3.0
"""Of a held-out reward, whose examples are always the same: a larger change than that of its noise."""

NEAR = 0.1
"""How far below its top a reward may be that counts as solved: a share of it, or of the range of rewards."""

Outcome = Literal["rose", "flat", "fell", "unknown"]


def outcome(records: RunRecords) -> Outcome:
    """Return what the reward did: from the first quarter of the steps to the last, beyond its noise.

    A run that replays references samples nothing, so its reward cannot rise: what it did is unknown, as that of a short run.
    """
    rewards = records.series("reward").trained()
    if len(rewards) < FEWEST_STEPS or not samples(records):
        return "unknown"
    change, error = change_of(rewards)
    if change > NOISE * error or _held_out_rose(records):
        return "rose"
    return "fell" if change < -NOISE * error else "flat"


def went_nowhere(records: RunRecords) -> bool:
    """Return whether the reward should have risen and did not. At its top it cannot rise."""
    found = outcome(records)
    return found == "fell" or (found == "flat" and not is_solved(records))


def is_solved(records: RunRecords) -> bool:
    """Return whether the reward ended at its top: near the greatest that any completion got, in relation to the least."""
    rewards, greatest = records.series("reward").trained(), records.series("reward/max").values
    if not len(rewards) or not len(greatest):
        return False
    top, room = float(greatest.max()), range_of_rewards(records)
    # Of a reward that is always the same, nobody knows whether it is the top.
    return room > 0 and bool(rewards.last(0.25).mean() >= top - NEAR * min(abs(top), room))


def samples(records: RunRecords) -> bool:
    """Return whether the policy wrote the completions: replayed ones are compared with no engine."""
    return "inference_mismatch/parity" in records.numbers


def learns_from_rewards(records: RunRecords) -> bool:
    """Return whether equal rewards leave the run nothing to learn."""
    return bool(records.plugins.get("learns_from_rewards", True))


def change_of(series: Series) -> tuple[float, float]:
    """Return how far the mean moved from the first quarter to the last, and the standard error of that."""
    quarter = max(3, len(series) // 4)
    first, last = series.values[:quarter], series.values[-quarter:]
    error = math.sqrt((np.var(first, ddof=1) + np.var(last, ddof=1)) / quarter)
    return float(last.mean() - first.mean()), float(error)


def range_of_rewards(records: RunRecords) -> float:
    """Return the difference between the greatest and the least reward of a completion."""
    least, greatest = records.series("reward/min").values, records.series("reward/max").values
    return float(greatest.max() - least.min()) if len(least) and len(greatest) else 0.0


def noise_of_held_out(records: RunRecords) -> float:
    """Return how much a held-out reward may change by chance, at most: rewards at both ends of their range."""
    num = records.setting("evaluation.num_examples") or 256
    return SIGMAS * 0.5 * range_of_rewards(records) / math.sqrt(num)


def _held_out_rose(records: RunRecords) -> bool:
    held_out = records.series("eval/reward")
    return len(held_out) > 1 and held_out.values[-1] - held_out.values[0] > max(noise_of_held_out(records), 1e-12)
