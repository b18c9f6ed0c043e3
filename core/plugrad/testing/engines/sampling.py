"""Promises about an engine that samples: from one distribution, with its log-probs, from the weights it was given last."""

from __future__ import annotations

from dataclasses import replace

import torch

from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.engines.engine_trial import SAMPLING, EngineTrial, largest_mismatch

TEMPERATURES = (1.0, SAMPLING.temperature)
FAR = 100
"""Other weights are so many times the tolerance away."""


def _check_seeds(trial: EngineTrial) -> str:
    _skip_if_replayed(trial)
    with trial.opened() as engine:
        first, again = engine.generate(trial.prompts, SAMPLING), engine.generate(trial.prompts, SAMPLING)
        other = engine.generate(trial.prompts, replace(SAMPLING, seed=SAMPLING.seed + 1))
    if first != again:
        raise Broken("the same prompts, seed and weights give other completions the second time")
    if first == other:
        raise Broken("another seed gives the same completions")
    if all(group[0].ids == group[1].ids for group in first):
        raise Broken("the completions of a group are all the same: they are not sampled independently")
    return "the same seed the same completions, another seed others"


def _check_random_state(trial: EngineTrial) -> str:
    _skip_if_replayed(trial)
    with trial.opened() as engine:
        before = torch.random.get_rng_state()
        engine.generate(trial.prompts, SAMPLING)
        after = torch.random.get_rng_state()
    if not torch.equal(before, after):
        raise Broken("generate changes the state of torch's random numbers")
    return "as it was"


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
    return "one completion, however often"


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
        raise Broken("its log-probs are those of weights that came after the tokens were sampled")
    if not difference <= trial.tolerance:
        raise Broken(f"after update_weights its log-probs are {difference:.1e} nats from those of the new weights")
    return f"within {difference:.0e} nats of the new ones"


def _skip_if_replayed(trial: EngineTrial) -> None:
    if not trial.samples:
        raise NotApplicable("it replays, and samples nothing")


SAMPLES: tuple[Promise[EngineTrial], ...] = (
    Promise(
        "seeds",
        "the same prompts, seed and weights give the same completions, and another seed gives others",
        "A run could not be repeated; ranks or steps that share their draws learn from the same rollouts twice.",
        "Seed a generator from sampling.seed at every call, and draw each completion of a group from it.",
        _check_seeds,
    ),
    Promise(
        "random_state",
        "it leaves the trainer's random state as it was",
        "What is drawn in training would depend on how long completions are.",
        "Draw from a torch.Generator of your own, or inside torch.random.fork_rng().",
        _check_random_state,
    ),
    Promise(
        "logprobs",
        "its log-probs are those of softmax(logits / temperature), which it samples from",
        "The ratio of policy and engine corrects for nothing if either is of another distribution.",
        "Switch off top-k, top-p, min-p and penalties; report log-probs of the logits that sampled, after the temperature.",
        _check_logprobs,
    ),
    Promise(
        "greedy",
        "temperature 0 is greedy",
        "Evaluation, and advantages that compare with a greedy completion, ask for it.",
        "Take the argmax where sampling.temperature is 0.",
        _check_greedy,
    ),
    Promise(
        "new_weights",
        "after update_weights it samples from the new weights, and what it returned before stays as it was",
        "Rollouts of an old policy that pass for new ones are off-policy without anybody knowing.",
        "Copy every weight, tied ones too, and empty the caches; copy log-probs out when tokens are sampled.",
        _check_new_weights,
    ),
)
