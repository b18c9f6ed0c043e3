"""An environment on trial: its examples, and its scores of attempts at them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property

from plugrad.contracts.rollout import Rollout
from plugrad.contracts.turns import ToolCall
from plugrad.errors import InputsChanged
from plugrad.host.environment import BoundEnvironment
from plugrad.host.time_limit import time_limit
from plugrad.host.trial import random_state_of
from plugrad.host.trial_plays import MadeUpPolicy, play_on_trial, score_or_play
from plugrad.registry.bind import Component
from plugrad.testing.environments.attempts import Attempt, attempts_at
from plugrad.testing.numbers import Numbers

LIMIT_S = 60.0
"""For the plays of a check."""
REMEDY = "Never wait for what may not come, and end at PlayEnded."


@dataclass(frozen=True)
class EnvironmentTrial:
    """An environment on trial."""

    component: Component

    @cached_property
    def environment(self) -> BoundEnvironment:
        """The instance that most checks share, since an environment can be slow to create."""
        return self.fresh(seed=0)

    @cached_property
    def attempts(self) -> list[Attempt]:
        """Attempts at its first examples."""
        return attempts_at(self.environment.train_examples())

    def fresh(self, seed: int) -> BoundEnvironment:
        """Return a new instance with its examples loaded. Its random numbers come from this seed."""
        with random_state_of(seed):
            made = BoundEnvironment.create(self.component)
            made.train_examples()
            made.eval_examples()
        return made

    def scores(self, attempts: Sequence[Attempt], seed: int = 0) -> Numbers:
        """Return rewards and components by name. Random numbers come from this seed."""
        rollouts = [attempt.rollout() for attempt in attempts]
        self.score(rollouts, seed)
        return {
            name: value
            for attempt, rollout in zip(attempts, rollouts, strict=True)
            for name, value in numbers_of(attempt.name, rollout)
        }

    def score(self, rollouts: Sequence[Rollout], seed: int = 0, environment: BoundEnvironment | None = None) -> None:
        """Score rollouts as the host does. A check of its own looks at whether they stay unchanged."""
        with random_state_of(seed), suppress(InputsChanged), self._limit:
            score_or_play(environment or self.environment, rollouts)

    def play(self, rollouts: Sequence[Rollout], calls: Sequence[ToolCall] = ()) -> list[MadeUpPolicy]:
        """Let it play these rollouts all at once; return what it did with a policy that always writes the completion."""
        policies = [MadeUpPolicy(rollout["completion"], calls) for rollout in rollouts]
        with random_state_of(0), self._limit:
            play_on_trial(self.environment, rollouts, policies)
        return policies

    @property
    def _limit(self) -> AbstractContextManager[None]:
        """Ends a play that hangs. A judge may be slow: scores of completions have time."""
        return time_limit(LIMIT_S, f"{self.component}.play", REMEDY) if self.environment.plays else nullcontext()


def numbers_of(name: str, rollout: Rollout) -> list[tuple[str, float]]:
    """Return the reward of a scored rollout and its components, by name."""
    components = [(f"{name}, component {part!r}", value) for part, value in rollout["reward_components"].items()]
    return [(name, rollout["reward"]), *components]
