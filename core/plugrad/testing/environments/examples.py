"""Promises about an environment's examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from plugrad.contracts.environment import Example
from plugrad.testing.checks import Broken, Promise
from plugrad.testing.environments.attempts import shorten
from plugrad.testing.environments.environment_trial import EnvironmentTrial


def _check_runs(environment: EnvironmentTrial) -> str:
    bound = environment.environment
    train, held_out = bound.train_examples(), bound.eval_examples()
    scores = environment.scores(environment.attempts).values()
    return f"{len(train)} examples to train on, {len(held_out)} held out; scores of {min(scores):.3g} to {max(scores):.3g}"


def _check_examples_stable(environment: EnvironmentTrial) -> str:
    first, second = environment.environment, environment.fresh(seed=1)
    _same_examples(second.train_examples(), first.train_examples(), "train_examples()")
    _same_examples(second.eval_examples(), first.eval_examples(), "eval_examples()")
    return "the same when made again"


def _same_examples(found: Sequence[Example], expected: Sequence[Example], method: str) -> None:
    if len(found) != len(expected):
        raise Broken(f"{method} of two environments with the same options has {len(expected)} and {len(found)} examples")
    for index, (example, wanted) in enumerate(zip(found, expected, strict=True)):
        if dict(example) != dict(wanted):
            raise Broken(
                f"{method} of two environments with the same options differs: example {index} asks "
                f"{shorten(wanted['prompt'])}, id {wanted['example_id']!r}, and {shorten(example['prompt'])}, id "
                f"{example['example_id']!r}"
            )


def _check_example_ids(environment: EnvironmentTrial) -> str:
    bound = environment.environment
    for method, examples in (("train_examples()", bound.train_examples()), ("eval_examples()", bound.eval_examples())):
        (most_common, count), *_ = Counter(str(example["example_id"]) for example in examples).most_common(1) or [("", 0)]
        if count > 1:
            raise Broken(f"{count} examples of {method} have the example_id {most_common!r}")
    return "each its own"


def _check_held_out(environment: EnvironmentTrial) -> str:
    bound = environment.environment
    trained = {str(example["prompt"]) for example in bound.train_examples()}
    held_out = [str(example["prompt"]) for example in bound.eval_examples()]
    shared = sum(prompt in trained for prompt in held_out)
    if not held_out:
        return "none held out"
    return f"{shared} of {len(held_out)} held-out prompts are also trained on"


RUNS: Promise[EnvironmentTrial] = Promise(
    "runs",
    "it has the three methods, an example to train on, and one finite score for each rollout",
    "A run stops at the first reward that is no number, after the rollouts have been paid for.",
    "Write train_examples(), eval_examples() and score(rollouts); each example is a mapping with a column `prompt`; score "
    "returns a list as long as its rollouts, of numbers or of mappings from names to numbers.",
    _check_runs,
)
EXAMPLES: tuple[Promise[EnvironmentTrial], ...] = (
    Promise(
        "examples_stable",
        "made again with the same options it has the same examples, in the same order",
        "Every rank makes its own and takes its share by number; a run that is repeated has to see the same prompts.",
        "Draw with a generator of your own, random.Random(seed), with `seed` an option; sort what comes from a set or a "
        "folder.",
        _check_examples_stable,
    ),
    Promise(
        "example_ids",
        "no two of its examples have one example_id",
        "Records and errors name an example by it, and whoever compares two runs matches prompts by it.",
        "Number the examples, or leave the column out: plugrad then numbers them.",
        _check_example_ids,
    ),
    Promise(
        "held_out",
        "how many held-out prompts are also trained on is reported, and never a failure",
        "A held-out reward that was trained on says nothing of what was learnt.",
        "Split before you repeat or augment; remove from train_examples() what is in eval_examples().",
        _check_held_out,
    ),
)
