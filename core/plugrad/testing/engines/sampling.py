"""Promises about an engine that samples: its distribution, its log-probs, and the weights that it uses."""

from __future__ import annotations

from dataclasses import replace

import torch

from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.engines.engine_trial import SAMPLING, EngineTrial, largest_mismatch

TEMPERATURES = (1.0, SAMPLING.temperature)
FAR = 100
"""Other weights change log-probs by more than this many tolerances."""


def _check_seeds(trial: EngineTrial) -> str:
    _skip_if_replayed(trial)
    with trial.opened() as engine:
        first, again = engine.generate(trial.prompts, SAMPLING), engine.generate(trial.prompts, SAMPLING)
        other = engine.generate(trial.prompts, replace(SAMPLING, seed=SAMPLING.seed + 1))
    if first != again:
        raise Broken("the same prompts, seed and weights give different completions the second time")
    if first == other:
        raise Broken("a different seed gives the same completions")
    if all(group[0].ids == group[1].ids for group in first):
        raise Broken("the completions of a group are all the same: they are not sampled independently")
    return "the same seed gives the same completions, a different one others"


def _check_random_state(trial: EngineTrial) -> str:
    _skip_if_replayed(trial)
    with trial.opened() as engine:
        before = torch.random.get_rng_state()
        engine.generate(trial.prompts, SAMPLING)
        after = torch.random.get_rng_state()
    if not torch.equal(before, after):
        raise Broken("generate changes torch's random state")
    return "unchanged"


def _check_logprobs(trial: EngineTrial) -> str:
    _skip_if_replayed(trial)
    largest = 0.0
    with trial.opened() as engine:
        for temperature in TEMPERATURES:
            groups = engine.generate(trial.prompts, replace(SAMPLING, temperature=temperature))
            difference = largest_mismatch(trial.prompts, groups, trial.model, temperature)
            if not difference <= trial.tolerance:
                raise Broken(
                    f"at temperature {temperature:g} its log-probs are {difference:.1e} nats from those of softmax(logits / "
                    "temperature)"
                )
            largest = max(largest, difference)
    return f"within {largest:.0e} nats of the model's"


def _check_greedy(trial: EngineTrial) -> str:
    _skip_if_replayed(trial)
    with trial.opened() as engine:
        groups = engine.generate(trial.prompts, replace(SAMPLING, temperature=0.0))
    if not all(completion.ids == group[0].ids for group in groups for completion in group):
        raise Broken("at temperature 0 the completions of a group differ")
    return "all completions of a group are equal"


def _check_new_weights(trial: EngineTrial) -> str:
    _skip_if_replayed(trial)
    asked = replace(SAMPLING, temperature=1.0)
    with trial.opened() as engine:
        before = engine.generate(trial.prompts, asked)
        with trial.other_weights():
            engine.update_weights(trial.weights(), version=4)
            after = engine.generate(trial.prompts, asked)
            stale = largest_mismatch(trial.prompts, before, trial.model, asked.temperature)
            difference = largest_mismatch(trial.prompts, after, trial.model, asked.temperature)
        engine.update_weights(trial.weights(), version=5)
    if not stale > FAR * trial.tolerance:
        raise Broken("its log-probs follow weights that arrived after the tokens were sampled")
    if not difference <= trial.tolerance:
        raise Broken(f"after update_weights its log-probs are {difference:.1e} nats from those of the new weights")
    return f"within {difference:.0e} nats of the new ones"


def _skip_if_replayed(trial: EngineTrial) -> None:
    if not trial.samples:
        raise NotApplicable("it replays completions and does not sample")


SAMPLES: tuple[Promise[EngineTrial], ...] = (
    Promise(
        "seeds",
        "the same prompts, seed and weights give the same completions, and a different seed gives others",
        "Otherwise no run can be repeated. Ranks or steps that share their draws learn from the same rollouts twice.",
        "Seed a generator from sampling.seed at every call, and draw each completion of a group from it.",
        _check_seeds,
    ),
    Promise(
        "random_state",
        "it does not change the trainer's random state",
        "Otherwise what training draws depends on the length of the completions.",
        "Draw from your own torch.Generator, or inside torch.random.fork_rng().",
        _check_random_state,
    ),
    Promise(
        "logprobs",
        "its log-probs are those of softmax(logits / temperature), the distribution that it samples from",
        "The ratio of policy and engine corrects nothing if either describes another distribution.",
        "Turn off top-k, top-p, min-p and penalties. Report log-probs of the logits that were sampled from, after the "
        "temperature.",
        _check_logprobs,
    ),
    Promise(
        "greedy",
        "temperature 0 is greedy",
        "Evaluation and advantages with a greedy baseline rely on it.",
        "Take the argmax if sampling.temperature is 0.",
        _check_greedy,
    ),
    Promise(
        "new_weights",
        "after update_weights it samples from the new weights, and earlier results stay unchanged",
        "Rollouts of an old policy that pass for new ones are off-policy, and nothing shows it.",
        "Copy every weight, tied ones included, and clear the caches. Copy log-probs when tokens are sampled.",
        _check_new_weights,
    ),
)
