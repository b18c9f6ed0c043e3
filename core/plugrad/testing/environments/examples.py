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
    return f"{len(train)} training examples, {len(held_out)} held out; scores from {min(scores):.3g} to {max(scores):.3g}"


def _check_examples_stable(environment: EnvironmentTrial) -> str:
    first, second = environment.environment, environment.fresh(seed=1)
    _compare_examples(second.train_examples(), first.train_examples(), "train_examples()")
    _compare_examples(second.eval_examples(), first.eval_examples(), "eval_examples()")
    return "the same in a second instance"


def _compare_examples(found: Sequence[Example], expected: Sequence[Example], method: str) -> None:
    if len(found) != len(expected):
        raise Broken(f"{method} of two instances with the same options has {len(expected)} and {len(found)} examples")
    for index, (example, wanted) in enumerate(zip(found, expected, strict=True)):
        if dict(example) != dict(wanted):
            raise Broken(
                f"{method} of two instances with the same options differs: example {index} is "
                f"{shorten(wanted['prompt'])}, id {wanted['example_id']!r}, in one and {shorten(example['prompt'])}, id "
                f"{example['example_id']!r}, in the other"
            )


def _check_example_ids(environment: EnvironmentTrial) -> str:
    bound = environment.environment
    for method, examples in (("train_examples()", bound.train_examples()), ("eval_examples()", bound.eval_examples())):
        (most_common, count), *_ = Counter(str(example["example_id"]) for example in examples).most_common(1) or [("", 0)]
        if count > 1:
            raise Broken(f"{count} examples of {method} share the example_id {most_common!r}")
    return "all different"


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
    "it has the three methods, at least one training example, and one finite score per rollout",
    "A run stops at the first reward that is not a number, after paying for the rollouts.",
    "Write train_examples(), eval_examples() and score(rollouts), or play(example, policy). Each example is a mapping "
    "with a column `prompt`. score "
    "returns one number, or one mapping from names to numbers, per rollout; play returns one.",
    _check_runs,
)
EXAMPLES: tuple[Promise[EnvironmentTrial], ...] = (
    Promise(
        "examples_stable",
        "a second instance with the same options has the same examples in the same order",
        "Every rank creates its own instance and takes its share by index. A repeated run must see the same prompts.",
        "Use your own generator, random.Random(seed), and make `seed` an option. Sort what comes from a set or a folder.",
        _check_examples_stable,
    ),
    Promise(
        "example_ids",
        "no two of its examples share an example_id",
        "Records and errors name an example by it, and a comparison of two runs matches prompts by it.",
        "Number the examples, or leave the column out: plugrad then numbers them.",
        _check_example_ids,
    ),
    Promise(
        "held_out",
        "the number of held-out prompts that are also trained on is reported; this check never fails",
        "The reward of a held-out prompt that was trained on does not show what was learned.",
        "Split before you repeat or augment. Remove the prompts of eval_examples() from train_examples().",
        _check_held_out,
    ),
)
