"""Plays that failed: what they cost, and when there are too many."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from statistics import fmean

from plugrad.contracts.rollout import Rollout
from plugrad.errors import ContractError, counted
from plugrad.host.environment import BoundEnvironment
from plugrad.registry.bind import Component
from plugrad.trainer.ranks.ranks import Ranks

logger = logging.getLogger("plugrad")

FAILED, SAID_BEFORE = "failed", "said_before"
"""What `info` of a failed play's rollout holds: why it failed, and its turns until then."""


def check_failures(
    groups: Sequence[Sequence[Rollout]],
    environment: BoundEnvironment,
    ranks: Ranks,
    *,
    num_greedy: int = 0,
    greedy_failures: Sequence[str] = (),
) -> None:
    """Count the failed plays of a batch over all ranks, and tell of them. Every rank calls it.

    Args:
        groups: the rollouts.
        environment: that played.
        ranks: of the run.
        num_greedy: how many plays there were beside them, for a baseline.
        greedy_failures: why some of those failed.

    Raises:
        ContractError: more than half have failed.
    """
    if not environment.plays:
        return
    rollouts = [rollout for group in groups for rollout in group]
    failed = [*failures_of(rollouts), *greedy_failures]
    shares = ranks.gather((len(rollouts) + num_greedy, failed))
    num, failures = sum(share for share, _ in shares), [why for _, share in shares for why in share]
    if failures:
        ranks.on_main(lambda: _tell(environment.component, num, failures))


def neutralize(group: Sequence[Rollout]) -> None:
    """Give failed plays the mean reward of the others: what they would have had is not known."""
    whole = [rollout["reward"] for rollout in group if _failure(rollout) is None]
    for rollout in group:
        if whole and _failure(rollout) is not None:
            rollout["reward"] = fmean(whole)


def failures_of(rollouts: Sequence[Rollout]) -> list[str]:
    """Return why plays failed."""
    return [why for rollout in rollouts if (why := _failure(rollout)) is not None]


def baselines(greedy: Sequence[Rollout], groups: Sequence[Sequence[Rollout]]) -> list[float]:
    """Return the rewards of greedy rollouts; where the play failed, the mean reward of the example's others.

    A reward of zero would favour or punish them all for a fault of the environment.
    """
    return [
        rollout["reward"] if _failure(rollout) is None else fmean(other["reward"] for other in group)
        for rollout, group in zip(greedy, groups, strict=True)
    ]


def _failure(rollout: Rollout) -> str | None:
    why = rollout.get("info", {}).get(FAILED)
    return None if why is None else str(why)


def _tell(component: Component, num: int, failures: Sequence[str]) -> None:
    most = max(set(failures), key=failures.count)
    told = f"{counted(len(failures), 'play')} of {num} failed, most often so: {most}"
    if 2 * len(failures) > num:
        raise ContractError(f"{component}: {told}")
    logger.warning("%s: %s. These rollouts are not trained on.", component, told)
