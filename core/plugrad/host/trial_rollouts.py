"""Made-up completions of an environment's examples, scored by it, for the pre-flight."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from plugrad.contracts.environment import Example
from plugrad.contracts.rollout import Rollout
from plugrad.host.environment import BoundEnvironment
from plugrad.host.received import WRITTEN_BY_SCORE
from plugrad.host.state_trial import trying_state
from plugrad.host.synthetic import make_rollout
from plugrad.host.trial import on_trial, random_state_of
from plugrad.host.trial_plays import score_or_play
from plugrad.host.trial_texts import MADE_UP_TEXTS, TrialTexts, saying_it_is_a_trial

NUM_EXAMPLES = 2
LOWEST = -2.0
LIMIT_S = 60.0


def try_environment(
    environment: BoundEnvironment,
    examples: Sequence[Example],
    rollouts_per_example: int,
    limit_s: float = LIMIT_S,
    texts: TrialTexts = MADE_UP_TEXTS,
) -> None:
    """Let an environment score completions of two of these examples. The random state is restored afterwards.

    Raises:
        PlugradError: it raised, hung, changed its inputs, or returned something that its contract forbids.
    """
    with random_state_of(0), saying_it_is_a_trial(texts):
        scored_on_trial(environment, examples, rollouts_per_example, limit_s, texts)


def scored_on_trial(
    environment: BoundEnvironment, examples: Sequence[Example], per_example: int, limit_s: float, texts: TrialTexts
) -> list[list[Rollout]]:
    """Return completions of two of these examples with their rewards. They are scored for at most `limit_s` seconds.

    Raises:
        PlugradError: the environment raised, hung, changed its inputs, or returned something that its contract forbids.
    """
    groups = _groups(examples, per_example, texts)
    rollouts = [rollout for group in groups for rollout in group]
    with (
        on_trial(str(environment.component), rollouts, limit_s, may_write=WRITTEN_BY_SCORE),
        trying_state(environment.component, environment.environment),
    ):
        score_or_play(environment, rollouts)
    return groups


def _groups(examples: Sequence[Example], rollouts_per_example: int, texts: TrialTexts) -> list[list[Rollout]]:
    draw = random.Random(0)
    return [
        [_rollout(draw, examples[i % len(examples)], j, 1 + (i + 2 * j) % 5, texts) for j in range(rollouts_per_example)]
        for i in range(NUM_EXAMPLES)
    ]


def _rollout(draw: random.Random, example: Example, member: int, length: int, texts: TrialTexts) -> Rollout:
    rollout = make_rollout(
        draw,
        length,
        logprobs=(LOWEST, 0.0),
        vocabulary=texts.vocabulary,
        prompt=texts.prompt(example),
        completion=texts.completion(example, member),
        reward=math.nan,
        example=example,
    )
    return Rollout(**{**rollout, "inference_logprobs": None}) if texts.replays else rollout
