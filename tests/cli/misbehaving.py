"""Components that do what they must not, each named for it. `test_misbehaving.py` copies this file beside a run file."""

import time

import torch

import plugrad
from plugrad import AdvantageOutputs, BatchLossInputs, LossOutputs


def surrogate(inputs):
    return -(inputs.trainer_logprobs * inputs.advantages)


# Losses of one sequence.


def returns_none(inputs):
    return None


def returns_a_tensor(inputs):
    return surrogate(inputs).sum()


def wrong_shape(inputs):
    return LossOutputs(surrogate(inputs)[:1])


def wrong_dtype(inputs):
    return LossOutputs((10 * surrogate(inputs)).long().sum())


def wrong_device(inputs):
    return LossOutputs(torch.zeros((), device="meta"))


def without_gradient(inputs):
    return LossOutputs(surrogate(inputs).sum().detach())


def not_finite(inputs):
    return LossOutputs(inputs.trainer_logprobs.log().sum())


def raises(inputs):
    raise KeyError("oh no")


def changes_inputs(inputs):
    inputs.advantages.mul_(2)
    return LossOutputs(surrogate(inputs).sum())


def calls_backward(inputs):
    loss = surrogate(inputs).sum()
    loss.backward()
    return LossOutputs(loss)


def prints(inputs):
    print("look at me")
    return LossOutputs(surrogate(inputs).sum())


def hangs(inputs):
    while True:
        time.sleep(0.01)


def takes_nothing():
    return None


def takes_options_alone(*, clip=0.2):
    return None


number = 3


# Losses of a micro-batch.


def batch_scalar(inputs: BatchLossInputs):
    return LossOutputs(surrogate(inputs).sum())


def batch_changes_inputs(inputs: BatchLossInputs):
    inputs.inference_logprobs.add_(1)
    return LossOutputs(surrogate(inputs))


def batch_calls_backward(inputs: BatchLossInputs):
    surrogate(inputs).sum().backward()
    return LossOutputs(surrogate(inputs))


# Advantages.


def advantage_none(inputs):
    return None


def advantage_shape(inputs):
    return AdvantageOutputs(inputs.rewards[:1])


def advantage_dtype(inputs):
    return AdvantageOutputs(inputs.rewards.to(torch.complex64))


def advantage_device(inputs):
    return AdvantageOutputs(inputs.rewards.to("meta"))


def advantage_nan(inputs):
    return AdvantageOutputs(inputs.rewards / 0)


def advantage_raises(inputs):
    raise KeyError("oh no")


def advantage_changes_rewards(inputs):
    inputs.rewards.sub_(1)
    return AdvantageOutputs(inputs.rewards)


def advantage_changes_rollouts(inputs):
    inputs.rollouts[0][0]["reward"] = 3.0
    return AdvantageOutputs(inputs.rewards)


def advantage_hangs(inputs):
    time.sleep(60)


def advantage_prints(inputs):
    print("look at me")
    return AdvantageOutputs(inputs.rewards)


# Metrics.


def metric_none(inputs):
    return None


def metric_text(inputs):
    return {"a": "b"}


def metric_matrix(inputs):
    return {"a": inputs.advantages}


def metric_raises(inputs):
    return {"a": inputs.nothing}


def metric_changes_inputs(inputs):
    inputs.rewards.zero_()
    return {"a": 1.0}


def metric_hangs(inputs):
    time.sleep(60)


def metric_prints(inputs):
    print("look at me")
    return {}


class Sums:
    """An environment that does one thing wrong."""

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong

    def train_examples(self):
        if self.wrong == "no list":
            return None
        return [{"question": "1+1="}] if self.wrong == "no prompt" else [{"prompt": "1+1=", "reference": "2"}] * 4

    def eval_examples(self):
        return []

    def score(self, rollouts):
        if self.wrong == "raises":
            raise RuntimeError("the judge is down")
        if self.wrong == "hangs":
            time.sleep(60)
        if self.wrong == "prints":
            print("look at me")
        if self.wrong == "changes":
            rollouts[0]["completion"] = "mine"
        rewards = {
            "none": None,
            "nan": float("nan"),
            "text": "1.5",
            "infinite": float("inf"),
            "component none": {"right": 1.0, "form": None},
        }
        scores = [rewards.get(self.wrong, 1.0)] * len(rollouts)
        return {"no scores": None, "too few": scores[1:]}.get(self.wrong, scores)


# Extensions.


class NoHook:
    pass


class Misspelt:
    @plugrad.hookimpl
    def before_updat(self):
        return True


class UnknownArgument:
    @plugrad.hookimpl(wrapper=True)
    def prepare_loss(self, input):
        return (yield)


class ReturnsNothing:
    @plugrad.hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        yield


class ReturnsScalar:
    @plugrad.hookimpl(wrapper=True)
    def compute_loss(self, inputs):
        outputs = yield
        return LossOutputs(outputs.loss.sum())


class Raises:
    @plugrad.hookimpl
    def before_update(self, grad_norm):
        raise ValueError("oh no")


class Hangs:
    @plugrad.hookimpl
    def before_update(self, grad_norm):
        time.sleep(60)


class Prints:
    @plugrad.hookimpl
    def before_update(self, grad_norm):
        print("look at me")


class ChangesInputs:
    @plugrad.hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        inputs.advantages.mul_(0.5)
        return (yield)


class CallsBackward:
    @plugrad.hookimpl(wrapper=True)
    def compute_loss(self, inputs):
        outputs = yield
        outputs.loss.sum().backward(retain_graph=True)
        return outputs


class NeverYields:
    @plugrad.hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        if inputs is None:
            yield
        return inputs


class FailsLater:
    @plugrad.hookimpl
    def on_run_start(self, run):
        raise OSError("the tracker refused")
