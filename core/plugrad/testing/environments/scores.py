"""Promises about an environment's scores."""

from __future__ import annotations

from plugrad.errors import InputsChanged, PlugradError
from plugrad.host.received import WRITTEN_BY_SCORE
from plugrad.host.trial import on_trial
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.environments.attempts import NUM_EXAMPLES, ODD, Attempt, attempts_at, reference_of, shorten
from plugrad.testing.environments.environment_trial import EnvironmentTrial
from plugrad.testing.numbers import Numbers, compare_numbers

LIMIT_S = 60.0
SHOWN_CHARACTERS = 300


def _check_score_alone(environment: EnvironmentTrial) -> str:
    attempts = environment.attempts
    together = environment.scores(attempts)
    alone: Numbers = {name: value for attempt in attempts for name, value in environment.scores([attempt]).items()}
    return compare_numbers(alone, together, "Scored alone instead of with the others")


def _check_score_order(environment: EnvironmentTrial) -> str:
    attempts = environment.attempts
    turned = environment.scores(attempts[::-1])
    return compare_numbers(turned, environment.scores(attempts), "With the rollouts in another order")


def _check_rollouts_unchanged(environment: EnvironmentTrial) -> str:
    if environment.environment.plays:
        raise NotApplicable("it plays, and gets no rollouts")
    rollouts = [attempt.rollout() for attempt in environment.attempts]
    try:
        with on_trial(str(environment.component), rollouts, LIMIT_S, may_write=WRITTEN_BY_SCORE):
            environment.environment.score(rollouts)
    except InputsChanged as error:
        raise Broken(str(error)) from error
    written = sorted({key for key in ("info", "metrics") for rollout in rollouts if rollout.get(key)})
    return f"it writes {' and '.join(written)}" if written else "unchanged"


def _check_deterministic(environment: EnvironmentTrial) -> str:
    attempts = environment.attempts
    first = environment.scores(attempts)
    environment.scores(attempts_at(environment.environment.train_examples()[-NUM_EXAMPLES:]))
    return compare_numbers(environment.scores(attempts, seed=1), first, "Scored again, after others")


def _check_references(environment: EnvironmentTrial) -> str:
    examples = environment.environment.train_examples()[:NUM_EXAMPLES]
    known = [example for example in examples if "reference" in example]
    if not known:
        raise NotApplicable("its examples have no reference")
    scores: list[float] = []
    for index, example in enumerate(known):
        reference = reference_of(example, "")
        right, empty = (_reward(environment, Attempt("", example, text)) for text in (reference, ""))
        if right < empty:
            raise Broken(
                f"example {index}: the reference {shorten(reference)} scores {right:.6g}, but an empty completion "
                f"{empty:.6g}"
            )
        scores.append(right)
    return f"references score {min(scores):.3g} to {max(scores):.3g}, empty completions no more"


def _reward(environment: EnvironmentTrial, attempt: Attempt) -> float:
    try:
        return environment.scores([attempt])[attempt.name]
    except PlugradError as error:
        raise NotApplicable("not every completion can be scored: see odd_completions") from error


def _check_odd_completions(environment: EnvironmentTrial) -> str:
    [example, *_] = environment.environment.train_examples()
    for text in ODD:
        try:
            environment.scores([Attempt("", example, text)])
        except PlugradError as error:
            raise Broken(f"the completion {shorten(text)}: {str(error)[:SHOWN_CHARACTERS]}") from error
    return f"{len(ODD)} odd completions, each with a finite score"


SCORES: tuple[Promise[EnvironmentTrial], ...] = (
    Promise(
        "deterministic",
        "a completion always has the same score",
        "The policy learns from noise in the reward as if it were signal, and no run can be repeated.",
        "Do not draw random numbers or keep anything from earlier scores or plays. Call a judge at temperature 0.",
        _check_deterministic,
    ),
    Promise(
        "score_alone",
        "the score of a rollout does not depend on the rollouts scored with it",
        "How many rollouts are scored at once depends on the number of ranks. Comparing rollouts is the advantage's job.",
        "Score each rollout by its completion and its example. Compare within a group in an advantage. Plays go on at once: "
        "keep what belongs to one in local variables, not in self.",
        _check_score_alone,
        after=("deterministic",),
    ),
    Promise(
        "score_order",
        "the order of rollouts does not matter",
        "The order carries no information. A judge called from threads must return scores in the order of its rollouts.",
        "Return one score per rollout, in order. Use executor.map, not as_completed.",
        _check_score_order,
        after=("deterministic",),
    ),
    Promise(
        "rollouts_unchanged",
        "it changes nothing in a rollout but metrics, info and trajectory",
        "The tokens that are trained on must belong to the text that was scored.",
        "Work on a copy: `text = rollout['completion'].strip()`. Report numbers in rollout['metrics'].",
        _check_rollouts_unchanged,
    ),
    Promise(
        "references",
        "a reference scores at least as high as an empty completion",
        "If the known answer scores below nonsense, the policy learns nonsense.",
        "Compare the answer that the prompt asks for with `reference`: prefix, format, white space.",
        _check_references,
    ),
    Promise(
        "odd_completions",
        "every completion has a finite score: empty, very long, in other alphabets, in other formats",
        "A policy writes everything sooner or later, and an exception stops the run.",
        "Score what cannot be parsed as a wrong answer: `try: ... except ValueError: return 0.0`.",
        _check_odd_completions,
    ),
)
