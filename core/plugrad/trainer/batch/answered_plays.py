"""Run the plays of a batch with an engine, in the way that suits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from plugrad.rollout.engine import (
    AnswersOneByOne,
    Completion,
    GeneratesInRounds,
    Prompt,
    Reply,
    RolloutEngine,
    Sampling,
)
from plugrad.rollout.turns.lockstep import LockStep
from plugrad.rollout.turns.one_by_one import OneByOne
from plugrad.rollout.turns.seats import Asked, Play, Table

OTHER_SEED = 86_028_121
"""Added to the seed for each further call of an engine with one seed for all: the same would draw the same tokens."""


def run_plays(engine: RolloutEngine, plays: Sequence[Play], sampling: Sampling, table: Table) -> list[Any]:
    """Return what each play returned, or the exception that ended it.

    Raises:
        PlugradError: what the engine raised.
    """
    one = replace(sampling, num_completions=1)
    if isinstance(engine, AnswersOneByOne):
        return OneByOne(partial(_submit, engine, one), table).run(plays)
    if isinstance(engine, GeneratesInRounds):
        with engine.together():
            return LockStep(partial(_round, engine, one), table).run(plays)
    return LockStep(_Rounds(engine, one), table).run(plays)


def _submit(engine: AnswersOneByOne, sampling: Sampling, asked: Asked) -> Any:
    return engine.submit(_prompt(asked), sampling)


def _round(engine: RolloutEngine, sampling: Sampling, asked: list[Asked]) -> list[Completion]:
    return [completion for [completion] in engine.generate(list(map(_prompt, asked)), sampling)]


def _prompt(asked: Asked) -> Prompt:
    return Prompt("", asked.ids, {}, Reply(asked.play, asked.number, asked.max_new_tokens))


@dataclass
class _Rounds:
    """Asks an engine that knows nothing of plays for the replies of a round: all at once, if they may be equally long."""

    engine: RolloutEngine
    sampling: Sampling
    num_calls: int = 0

    def __call__(self, asked: list[Asked]) -> list[Completion]:
        found: dict[int, Completion] = {}
        for most in sorted({each.max_new_tokens for each in asked}):
            places = [place for place, each in enumerate(asked) if each.max_new_tokens == most]
            seed = self.sampling.seed + self.num_calls * OTHER_SEED
            of_round = replace(self.sampling, max_new_tokens=most, seed=seed)
            self.num_calls += 1
            completions = _round(self.engine, of_round, [asked[place] for place in places])
            found.update(zip(places, completions, strict=True))
        return [found[place] for place in range(len(asked))]
