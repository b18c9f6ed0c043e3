"""The checks of a rollout engine. To add one, write a promise in one of these modules; `PROMISES` collects them.

- `completions`: number, length and policy version of completions, and closing twice.
- `sampling`: the distribution, its log-probs, and new weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plugrad.testing.checks import Check, NotApplicable, Promise, checks_of_promises
from plugrad.testing.engines.completions import COMPLETIONS, RUNS
from plugrad.testing.engines.engine_trial import EngineTrial, MakeEngine
from plugrad.testing.engines.sampling import SAMPLES

PROMISES: tuple[Promise[Any], ...] = (RUNS, *COMPLETIONS, *SAMPLES)


def engine_checks(
    make_engine: MakeEngine,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    samples: bool = True,
    tolerance: float = 1e-5,
) -> Iterator[Check]:
    """Yield a check of each promise of an engine, on prompts of different lengths. Each creates an engine and closes it.

    Args:
        make_engine: creates the engine for a model and its tokenizer.
        model: the policy; its weights are changed and restored.
        tokenizer: the model's.
        samples: False for an engine that replays recorded completions. Checks of sampling do not apply to it.
        tolerance: the largest accepted difference, in nats, between the engine's log-probs and the model's.
    """
    owner = f"the engine {getattr(make_engine, '__name__', type(make_engine).__name__)!r}"
    trial = EngineTrial(make_engine, model, tokenizer, samples, tolerance)
    yield from checks_of_promises(PROMISES, owner, trial)


def check_engine(
    make_engine: MakeEngine,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    samples: bool = True,
    tolerance: float = 1e-5,
) -> None:
    """Run all of `engine_checks`, with the same arguments.

    Raises:
        CheckFailure: the first promise that is broken.
    """
    for check in engine_checks(make_engine, model, tokenizer, samples=samples, tolerance=tolerance):
        try:
            check()
        except NotApplicable:
            continue
