"""Components that try to end the process. `test_ending_plugins.py` copies this file beside a run file."""

import asyncio
import os
import sys

import plugrad
from plugrad import AdvantageOutputs, LossOutputs

RAISED = {
    "exit": SystemExit(),
    "exit 0": SystemExit(0),
    "exit 3": SystemExit(3),
    "generator": GeneratorExit(),
    "interrupt": KeyboardInterrupt(),
    "cancelled": asyncio.CancelledError(),
    "own": type("Own", (BaseException,), {})("leave me"),
}


EXITS = {"os._exit 0": 0, "os._exit 3": 3}


def end(how):
    if how in EXITS:
        os._exit(EXITS[how])
    raise RAISED[how]


if "ENDS_AT_IMPORT" in os.environ:
    end(os.environ["ENDS_AT_IMPORT"])


class Rude:
    """What cannot be shown: to do so ends the process."""

    def __repr__(self):
        raise SystemExit(0)

    __str__ = __repr__


class RudeError(Exception):
    def __str__(self):
        raise SystemExit(0)


class WorseError(BaseException):
    __str__ = RudeError.__str__


RUDE = {
    "prompt": {"prompt": Rude()},
    "column": {"prompt": "1+1=", "column": Rude()},
    "key": {"prompt": "1+1=", Rude(): 1},
    "id": {"prompt": "1+1=", "reference": "\ud800", "example_id": Rude()},
    "no prompt": {Rude(): 1},
    "fine": {"prompt": "1+1=", "reference": "2"},
}


def optional(inputs, rude=Rude()):  # noqa: B008
    return LossOutputs(-(inputs.trainer_logprobs * inputs.advantages).sum())


def raising(inputs, from_step: int = 0):
    if inputs.step >= from_step:
        raise (WorseError if from_step else RudeError)()
    return optional(inputs)


class RudeEnvironment:
    def __init__(self, example: str = "fine", score: str = "number"):
        self.example, self.kind = example, score

    def train_examples(self):
        return [dict(RUDE[self.example]) for _ in range(4)]

    def eval_examples(self):
        return []

    def score(self, rollouts):
        if self.kind == "raises":
            raise ValueError(Rude())
        if self.kind == "metric":
            rollouts[0]["metrics"][Rude()] = 1.0
        return [{"number": 1.0, "rude": Rude(), "named": {Rude(): 1.0}}.get(self.kind, 1.0)] * len(rollouts)


def loss(inputs, how: str, from_step: int = 0):
    if inputs.step >= from_step:
        end(how)
    return LossOutputs(-(inputs.trainer_logprobs * inputs.advantages).sum())


def advantage(inputs, how: str):
    if how:
        end(how)
    return AdvantageOutputs(inputs.rewards)


def metric(inputs, how: str = "exit"):
    end(how)


class Environment:
    def __init__(self, how: str, where: str = "score"):
        self.how, self.where = how, where
        self.end_at("constructor")

    def end_at(self, where):
        if where == self.where:
            end(self.how)

    def train_examples(self):
        self.end_at("train_examples")
        return [{"prompt": "1+1=", "reference": "2"}] * 4

    def eval_examples(self):
        self.end_at("eval_examples")
        return []

    def score(self, rollouts):
        self.end_at("score")
        return (end(self.how) if self.where == "generator" else 1.0 for _ in rollouts)


class Extension:
    def __init__(self, how: str, where: str = "before_update"):
        self.how, self.where = how, where

    @plugrad.hookimpl(wrapper=True)
    def compute_loss(self):
        if self.where == "compute_loss":
            end(self.how)
        return (yield)

    @plugrad.hookimpl
    def before_update(self):
        if self.where == "before_update":
            end(self.how)

    @plugrad.hookimpl
    def on_step_end(self, step):
        if self.where == "on_step_end" and step == 2:
            end(self.how)


def reward(completion, example):
    sys.exit(0)


def leaving_reward(completion, example):
    os._exit(0)
