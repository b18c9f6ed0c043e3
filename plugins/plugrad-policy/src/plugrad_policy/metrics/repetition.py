"""How much completions repeat themselves, an early sign of collapse."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plugrad import Max, Mean, Measure, MetricInputs


def repetition(inputs: MetricInputs, n: Annotated[int, Field(ge=1)] = 4) -> dict[str, Measure]:
    """1 - distinct / all, of the n-grams of a completion's tokens. Completions of fewer than n tokens are left out.

    The complement of distinct-n (arXiv:1510.03055), computed within each completion.

    Args:
        n: the n-gram length in tokens. 4 is this package's own default.

    Reports:
        mean: the mean share over completions.
        max: the share of the most repetitive completion.
    """
    completions = [rollout["completion_ids"] for group in inputs.rollouts for rollout in group]
    shares = [_repeated_share(ids, n) for ids in completions if len(ids) >= n]
    return {"mean": Mean.of(shares), "max": Max(max(shares))} if shares else {}


def _repeated_share(ids: list[int], n: int) -> float:
    grams = [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams)
