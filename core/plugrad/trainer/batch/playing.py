"""Rollouts of several turns: every rollout is a play of the environment with the policy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plugrad.contracts.environment import Example
from plugrad.contracts.rollout import Rollout
from plugrad.contracts.turns import PlayEnded
from plugrad.errors import ContractError
from plugrad.host.calling import raised_by
from plugrad.host.environment import BoundEnvironment
from plugrad.rollout.endpoint.endpoint import Endpoint
from plugrad.rollout.engine import RolloutEngine, Sampling
from plugrad.rollout.texts import Texts
from plugrad.rollout.turns.blocked_plays import PlayTimeout
from plugrad.rollout.turns.player import PlayLimits, PolicyPlayer
from plugrad.rollout.turns.seats import Ask, Table
from plugrad.shown import shown
from plugrad.trainer.batch.answered_plays import run_plays
from plugrad.trainer.batch.failed_plays import FAILED, SAID_BEFORE, neutralize


@dataclass(frozen=True)
class Playing:
    """Lets an environment play with the policy."""

    engine: RolloutEngine
    environment: BoundEnvironment
    texts: Texts
    limits: PlayLimits

    def sample(self, examples: Sequence[Example], sampling: Sampling) -> list[list[Rollout]]:
        """Play `num_completions` times with each example, and score what was played. Plays may have failed."""
        endpoint = Endpoint()
        plays = [_Play(self, example, endpoint) for example in examples for _ in range(sampling.num_completions)]
        runs = [play.run for play in plays]
        found = run_plays(self.engine, runs, sampling, Table(self.limits.seconds, endpoint.close))
        rollouts = [play.scored(outcome) for play, outcome in zip(plays, found, strict=True)]
        n = sampling.num_completions
        groups = [rollouts[start : start + n] for start in range(0, len(rollouts), n)]
        for group in groups:
            neutralize(group)
        return groups


class _Play:
    """One play and its rollout."""

    def __init__(self, playing: Playing, example: Example, endpoint: Endpoint) -> None:
        self._playing, self._example, self._endpoint = playing, example, endpoint
        self._player: PolicyPlayer | None = None

    async def run(self, ask: Ask) -> Any:
        player = PolicyPlayer(ask, self._playing.texts, self._playing.limits, self._endpoint.address_of)
        self._player = player
        try:
            return await self._playing.environment.play(dict(self._example), player)
        except PlayEnded:
            return None
        finally:
            player.end()

    def scored(self, outcome: Any) -> Rollout:
        """Return the rollout with its score; without tokens if the play failed."""
        playing, environment = self._playing, self._playing.environment
        assert self._player is not None
        owner = f"{environment.component}.play"
        if isinstance(outcome, PlayTimeout):
            outcome = ContractError(
                f"{owner} took more than {playing.limits.seconds:g} s of its own for example "
                f"{shown(self._example.get('example_id'))}."
            )
        elif isinstance(outcome, asyncio.CancelledError):
            outcome = ContractError(f"{owner} cancelled itself.")
        if isinstance(outcome, Exception):
            error = outcome if isinstance(outcome, ContractError) else raised_by(owner, outcome)
            return self._failed(str(error))
        rollout = self._player.rollout(self._example)
        environment.write_outcome(outcome, self._player.rewards_of_turns, rollout)
        rollout["metrics"] = {**self._player.numbers, "failed": 0.0}
        return rollout

    def _failed(self, why: str) -> Rollout:
        assert self._player is not None
        nothing = PolicyPlayer(self._player.ask, self._player.texts, self._player.limits)
        rollout = nothing.rollout(self._example)
        rollout["reward"], rollout["metrics"] = 0.0, {"failed": 1.0}
        rollout["info"] = {FAILED: why, SAID_BEFORE: self._player.rollout(self._example)["turns"]}
        return rollout
