"""Components that keep their contract in the first calls, and break it later, each named for what it does then."""

from dataclasses import replace

import numpy as np
import torch

import plugrad
from plugrad import AdvantageOutputs, BatchLossInputs, LossOutputs, Mean, Sum

STEP = 2
MAX_NEW_TOKENS = 4


def surrogate(inputs):
    return -(inputs.trainer_logprobs * inputs.advantages)


def calls_backward(inputs: BatchLossInputs):
    if inputs.step >= STEP:
        surrogate(inputs).sum().backward(retain_graph=True)
    return LossOutputs(surrogate(inputs))


def calls_backward_per_sequence(inputs):
    if inputs.step >= STEP:
        surrogate(inputs).sum().backward(retain_graph=True)
    return LossOutputs(surrogate(inputs).sum())


def uses_up_the_graph(inputs: BatchLossInputs):
    if inputs.step >= STEP:
        surrogate(inputs).sum().backward()
    return LossOutputs(surrogate(inputs))


def detached(inputs: BatchLossInputs):
    loss = surrogate(inputs)
    return LossOutputs(loss.detach() - 1 if inputs.step >= STEP else loss)


def detached_for_one_sequence(inputs):
    loss, length = surrogate(inputs).sum() - 1, int(inputs.loss_mask.sum())
    return LossOutputs(loss.detach() if inputs.step >= STEP and length == MAX_NEW_TOKENS else loss)


def changes_inputs(inputs: BatchLossInputs):
    if inputs.step >= STEP:
        inputs.inference_logprobs.add_(1)
    return LossOutputs(surrogate(inputs))


def metric_is_text(inputs: BatchLossInputs):
    return LossOutputs(surrogate(inputs), {"gap": "wide" if inputs.step >= STEP else 1.0})


def metric_changes_its_type(inputs: BatchLossInputs):
    # Fewer tokens fit a micro-batch than a step has, so that each has several.
    first = int(inputs.group_ids.min()) == 0
    return LossOutputs(surrogate(inputs), {"gap": Sum(1.0) if inputs.step >= STEP and not first else Mean(1.0, 1.0)})


def sets_the_default_dtype(inputs: BatchLossInputs):
    if inputs.step >= STEP:
        torch.set_default_dtype(torch.float64)
    return LossOutputs(surrogate(inputs))


def switches_gradients_off(inputs: BatchLossInputs):
    loss = surrogate(inputs)
    if inputs.step >= STEP:
        torch.set_grad_enabled(False)
    return LossOutputs(loss)


# Fine all along: a loss that is switched off, and metrics with gaps.


def switched_off_later(inputs: BatchLossInputs):
    return LossOutputs(torch.zeros_like(inputs.advantages) if inputs.step >= STEP else surrogate(inputs))


def metrics_with_gaps(inputs):
    length = int(inputs.loss_mask.sum())
    metrics = {"none": None, "numpy": np.float32(0.5), "cut": 1.0 if length == MAX_NEW_TOKENS else None}
    return LossOutputs(surrogate(inputs).sum(), {**metrics, "late": 1.0 if inputs.step else None})


def metric_that_is_nan(inputs):
    return LossOutputs(surrogate(inputs).sum(), {"gap": torch.tensor(float("nan")) if inputs.step >= 1 else 0.0})


class Changes:
    """An advantage that changes what all ranks see of the rollouts."""

    def __init__(self):
        self.calls = 0

    def __call__(self, inputs):
        self.calls += 1
        if self.calls > STEP:
            inputs.rollouts[0][0]["completion_ids"].append(7)
        return AdvantageOutputs(inputs.rewards)


class Environment:
    """An environment that breaks its contract from its fourth call on; the pre-flight is the first."""

    def __init__(self, wrong: str, first: int = 4):
        self.wrong, self.first, self.calls = wrong, first, 0

    def train_examples(self):
        return [{"prompt": f"{i}+1=", "reference": str(i + 1), "list": [i]} for i in range(8)]

    def eval_examples(self):
        return []

    def score(self, rollouts):
        self.calls += 1
        rollout, scores = rollouts[-1], [0.5] * len(rollouts)
        if self.calls < self.first:
            return scores
        wrong = {
            "empties log-probs": rollout["inference_logprobs"].clear,
            "changes a log-prob": lambda: rollout["inference_logprobs"].__setitem__(0, -7.5),
            "no log-probs": lambda: rollout.update(inference_logprobs=None),
            "appends to the completion": lambda: rollout["completion_ids"].append(5),
            "appends to the prompt": lambda: rollout["prompt_ids"].append(5),
            "an array": lambda: rollout.update(completion_ids=np.array(rollout["completion_ids"])),
            "deletes the completion": lambda: rollout.pop("completion_ids"),
            "deletes the example": lambda: rollout.pop("example"),
            "writes into the example": lambda: rollout["example"].update(seen=True),
            "another text": lambda: rollout.update(completion="better"),
            "clears everything": rollout.clear,
            "drops a rollout": rollouts.pop,
            "sorts": rollouts.reverse,
            "replaces a rollout": lambda: rollouts.__setitem__(0, dict(rollout)),
            "metrics none": lambda: rollout.update(metrics=None),
            "metrics text": lambda: rollout["metrics"].update(length="long"),
            "metrics array": lambda: rollout["metrics"].update(length=np.zeros(3)),
            "metrics nan": lambda: rollout["metrics"].update(length=float("nan")),
            "metrics number": lambda: rollout["metrics"].update({3: 1.0}),
            "metrics list": lambda: rollout.update(metrics=[1.0]),
        }
        returned = {
            "empty mapping": lambda: [{}, *scores[1:]],
            "unnamed": lambda: [{1: 0.5}, *scores[1:]],
            "infinite sum": lambda: [{"a": 1e308, "b": 1e308}, *scores[1:]],
            "huge": lambda: [10**400, *scores[1:]],
            "endless": lambda: iter(lambda: 1.0, None),
            "a mapping": lambda: dict(enumerate(scores)),
            "scalar": lambda: np.float64(1.0),
            "set": lambda: set(scores),
            "asynchronous": self.later,
            "asynchronous scores": lambda: [self.later() for _ in scores],
        }
        if self.wrong in returned:
            return returned[self.wrong]()
        wrong[self.wrong]()
        return scores

    async def later(self):
        return 1.0


class _Extension:
    def __init__(self):
        self.step = 0

    @plugrad.hookimpl
    def on_step_end(self, step):
        self.step = step


class CountsPrompts(_Extension):
    @plugrad.hookimpl(wrapper=True)
    def prepare_loss(self):
        inputs = yield
        return replace(inputs, loss_mask=torch.ones_like(inputs.loss_mask)) if self.step >= STEP else inputs


class Detaches(_Extension):
    @plugrad.hookimpl(wrapper=True)
    def prepare_loss(self):
        inputs = yield
        return replace(inputs, trainer_logprobs=inputs.trainer_logprobs.detach()) if self.step >= STEP else inputs


class DetachesTheLoss(_Extension):
    @plugrad.hookimpl(wrapper=True)
    def compute_loss(self):
        outputs = yield
        return LossOutputs(outputs.loss.detach() - 1) if self.step >= STEP else outputs


class CallsBackward(_Extension):
    @plugrad.hookimpl(wrapper=True)
    def compute_loss(self):
        outputs = yield
        if self.step >= STEP:
            outputs.loss.sum().backward(retain_graph=True)
        return outputs


class ChangesInputs(_Extension):
    @plugrad.hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        if self.step >= STEP:
            inputs.advantages.mul_(0.5)
        return (yield)


class ChangesRollouts(_Extension):
    @plugrad.hookimpl(wrapper=True)
    def prepare_advantages(self, inputs):
        if self.step >= STEP:
            inputs.rollouts[0][0]["completion_ids"].clear()
        return (yield)


class VetoesWithNumpy(_Extension):
    @plugrad.hookimpl
    def before_update(self):
        return np.bool_(False) if self.step >= STEP else True


class MetricIsText(_Extension):
    @plugrad.hookimpl(wrapper=True)
    def compute_metrics(self):
        measures = yield
        return {**measures, "mine": "text"} if self.step >= STEP else measures
