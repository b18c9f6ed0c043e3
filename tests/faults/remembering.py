"""Plugins that remember something from step to step, for runs that are killed: a state that is lost shows in the records."""

import random

import numpy as np
import torch

from plugrad import AdvantageOutputs, BatchLossInputs, LossOutputs, hookimpl, loss


@loss(policy_gradient=True)
class Moody:
    """REINFORCE with a weight that remembers, and that draws from every source of chance."""

    def __init__(self):
        self.weight, self.own = 1.0, random.Random(3)

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        chance = 1 + 0.1 * (random.random() + np.random.rand() + float(torch.rand(())))
        return LossOutputs(-chance * self.weight * inputs.advantages * inputs.trainer_logprobs, {"weight": self.weight})

    def after_update(self, measures):
        self.weight = 0.9 * self.weight + 0.1 * (self.own.random() + measures["loss"])

    def state_dict(self):
        return {"weight": self.weight, "own": self.own.getstate()}

    def load_state_dict(self, state):
        self.weight = state["weight"]
        self.own.setstate(state["own"])


class Running:
    """An advantage: the reward less a running mean."""

    def __init__(self):
        self.mean = 0.0

    def __call__(self, inputs):
        advantages = inputs.rewards - self.mean
        self.mean = 0.5 * self.mean + 0.5 * float(inputs.rewards.mean())
        return AdvantageOutputs(advantages)

    def state_dict(self):
        return {"mean": torch.tensor(self.mean, dtype=torch.float64)}

    def load_state_dict(self, state):
        self.mean = float(state["mean"])


class Fewer:
    """An extension: vetoes one update of several, counted over the whole run."""

    def __init__(self, every: int = 7):
        self.every, self.seen = every, 0

    @hookimpl(wrapper=True)
    def before_update(self):
        happens = yield
        self.seen += 1
        return [*happens, self.seen % self.every != 0]

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def ones(completion, example):
    """Reward what is soon learnt."""
    return completion.count("1")
