"""Extensions that each break one promise. The decorator names the check made for it, and those that must see it too."""

import random
import threading
from dataclasses import replace

import torch
from breaking import noted

from plugrad import hookimpl

BROKEN, breaks = noted()


@breaks("runs")
class HasNoHook:
    pass


@breaks("runs")
class MisspellsAHook:
    @hookimpl(wrapper=True)
    def prepare_losses(self, inputs):
        return (yield)


@breaks("runs")
class ReturnsNothing:
    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        yield


@breaks("runs")
class DropsARow:
    @hookimpl(wrapper=True)
    def prepare_advantages(self, inputs):
        inputs = yield
        return replace(inputs, rewards=inputs.rewards[:1], completion_lengths=inputs.completion_lengths[:1])


@breaks("counts_nothing_new")
class CountsTheToken:
    """Counts the last token of the prompt."""

    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        inputs = yield
        mask = inputs.loss_mask.clone()
        mask[:, 1] = True
        return replace(inputs, loss_mask=mask)


@breaks("gradient")
class Detaches:
    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        inputs = yield
        return replace(inputs, trainer_logprobs=inputs.trainer_logprobs.detach())


@breaks("gradient")
class ForgetsTheAdvantage:
    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        inputs = yield
        return replace(inputs, advantages=inputs.advantages * 0)


@breaks("micro_batches")
class CentresOverTheMicroBatch:
    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        inputs = yield
        return replace(inputs, advantages=inputs.advantages - inputs.advantages[inputs.loss_mask].mean())


@breaks("micro_batches")
class DropsTheLastSequence:
    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        inputs = yield
        mask = inputs.loss_mask.clone()
        mask[len(mask) - 1 :] = False
        return replace(inputs, loss_mask=mask)


@breaks("micro_batches")
class WeighsSequences:
    @hookimpl(wrapper=True)
    def compute_loss(self, inputs):
        outputs = yield
        return replace(outputs, loss=outputs.loss / len(outputs.loss))


@breaks("before_update")
class VetoesByChance:
    @hookimpl
    def before_update(self, grad_norm):
        return random.random() < 0.5


@breaks("finite")
class DividesByTheMask:
    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        inputs = yield
        return replace(inputs, inference_logprobs=inputs.inference_logprobs / inputs.loss_mask)


@breaks("metrics_kept")
class TakesThePlaceOfTheMetrics:
    @hookimpl(wrapper=True)
    def compute_metrics(self, inputs):
        yield
        return {"own": 1.0}


@breaks("inputs_unchanged")
class ChangesRewardsInPlace:
    @hookimpl(wrapper=True)
    def prepare_advantages(self, inputs):
        inputs = yield
        inputs.rewards.clamp_(max=0.5)
        return inputs


@breaks("inputs_unchanged")
class WritesIntoRollouts:
    @hookimpl(wrapper=True)
    def prepare_advantages(self, inputs):
        inputs = yield
        inputs.rollouts[0][0]["metrics"]["seen"] = 1.0
        return inputs


@breaks("deterministic")
class NoisyRewards:
    @hookimpl(wrapper=True)
    def prepare_advantages(self, inputs):
        inputs = yield
        return replace(inputs, rewards=inputs.rewards + torch.rand(()).to(inputs.rewards))


@breaks("state")
class RunningMean:
    """Subtracts a running mean, that nobody saves."""

    def __init__(self):
        self.mean = 0.0

    @hookimpl(wrapper=True)
    def prepare_advantages(self, inputs):
        inputs = yield
        self.mean = 0.9 * self.mean + 0.1 * inputs.rewards.mean().item()
        return replace(inputs, rewards=inputs.rewards - self.mean)


@breaks("resumes")
class ForgetsItsState(RunningMean):
    """Declares state, and saves none of it."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@breaks("pickles")
class HoldsALock:
    def __init__(self):
        self.lock = threading.Lock()

    @hookimpl
    def on_step_end(self, step):
        pass


@breaks("options_from_toml")
class TakesAFunction:
    def __init__(self, of: object = max):
        self.of = of

    @hookimpl
    def on_step_end(self, step):
        pass


@breaks("run")
class FailsAtTheEnd:
    @hookimpl
    def on_run_end(self, run):
        raise RuntimeError(f"no file {run.folder.name}")
