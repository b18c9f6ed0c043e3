"""The kit on state: what a checkpoint would lose is found, whatever the fault and the kind; what works passes."""

import random
from dataclasses import replace

import broken_advantages
import broken_environments
import broken_extensions
import broken_losses
import broken_metrics
import numpy as np
import pytest
import torch

from plugrad import AdvantageInputs, AdvantageOutputs, advantage, hookimpl
from plugrad.testing import CheckFailure, checks_of
from plugrad.testing.checks import NotApplicable, NotRun


def seen(component, name="resumes"):
    [check] = [check for check in checks_of(component) if check.name == name]
    return check()


def failure(component):
    with pytest.raises(CheckFailure) as raised:
        seen(component)
    return raised.value.seen


@advantage(mixes_groups=True, signal_from_equal_rewards=True)
class RunningMean:
    """Keeps a mean, the number of batches, and the means of all groups so far."""

    def __init__(self):
        self.mean, self.batches, self.means = 0.0, 0, []

    def __call__(self, inputs: AdvantageInputs):
        advantages = inputs.rewards - self.mean
        self.batches += 1
        self.means += inputs.rewards.mean(dim=1).tolist()
        self.mean = sum(self.means) / len(self.means) / self.batches
        return AdvantageOutputs(advantages)

    def state_dict(self):
        return {"mean": self.mean, "batches": self.batches, "means": list(self.means)}

    def load_state_dict(self, state):
        self.mean, self.batches, self.means = state["mean"], state["batches"], list(state["means"])


class LacksAField(RunningMean):
    def state_dict(self):
        return {"mean": self.mean, "batches": self.batches}

    def load_state_dict(self, state):
        self.mean, self.batches = state["mean"], state["batches"]


class IgnoresAField(RunningMean):
    def load_state_dict(self, state):
        self.mean, self.means = state["mean"], list(state["means"])


class HoldsAFunction(RunningMean):
    def state_dict(self):
        return {**super().state_dict(), "smooth": lambda x: x}


class HoldsAnObject(RunningMean):
    def state_dict(self):
        return {**super().state_dict(), "random": random.Random(0)}


class Misspells(RunningMean):
    def load_state_dict(self, state):
        self.mean = state["baseline"]


class SavesOnly:
    def __call__(self, inputs: AdvantageInputs):
        return AdvantageOutputs(inputs.rewards - 0.5)

    def state_dict(self):
        return {}


class SharesItsState(RunningMean):
    """All instances have the same list."""

    shared: list[float] = []  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.means = self.shared

    def load_state_dict(self, state):
        self.mean, self.batches = state["mean"], state["batches"]


class ReturnsLiveReferences(RunningMean):
    def state_dict(self):
        return vars(self)

    def load_state_dict(self, state):
        vars(self).update(state)


class LoadsAliases(RunningMean):
    def load_state_dict(self, state):
        self.__dict__ = state


FAULTS = {
    LacksAField: "Resumed from what state_dict returned, the advantage of example",
    IgnoresAField: r"after load_state_dict\(state\), state_dict\(\)\['batches'\] is not what was saved",
    HoldsAFunction: r"state_dict\(\)\['smooth'\] is a function; leave it out",
    HoldsAnObject: r"state_dict\(\)\['random'\] is a random.Random; write .getstate\(\)",
    Misspells: "load_state_dict raised KeyError: 'baseline'",
    SharesItsState: r"after load_state_dict\(state\), state_dict\(\)\['means'\] is not what was saved",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_is_found(fault):
    with pytest.raises(CheckFailure, match=FAULTS[fault]):
        seen(fault)


def test_one_method_alone_fails():
    with pytest.raises(CheckFailure, match="has state_dict and no load_state_dict"):
        seen(SavesOnly, "state")


@pytest.mark.parametrize("harmless", [RunningMean, ReturnsLiveReferences, LoadsAliases], ids=lambda made: made.__name__)
def test_references_that_are_shared_are_harmless_since_the_host_copies(harmless):
    assert seen(harmless) == "the same to the bit, with mean, batches, means saved"


class Draws(RunningMean):
    """Subtracts a random number of its own: the same in each run, if it is saved."""

    def __call__(self, inputs: AdvantageInputs):
        return AdvantageOutputs(inputs.rewards - self.draw())

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class DrawsWithPython(Draws):
    def __init__(self):
        self.random = random.Random(0)

    def draw(self):
        return self.random.random()


class DrawsWithTorch(Draws):
    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def draw(self):
        return torch.rand((), generator=self.generator).item()


class DrawsWithNumpy(Draws):
    def __init__(self):
        self.random = np.random.default_rng(0)

    def draw(self):
        return self.random.random()


class SavesPython(DrawsWithPython):
    def state_dict(self):
        return {"random": self.random.getstate()}

    def load_state_dict(self, state):
        self.random.setstate(state["random"])


class SavesTorch(DrawsWithTorch):
    def state_dict(self):
        return {"random": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["random"])


class SavesNumpy(DrawsWithNumpy):
    def state_dict(self):
        return {"random": self.random.bit_generator.state}

    def load_state_dict(self, state):
        self.random.bit_generator.state = state["random"]


@pytest.mark.parametrize("draws", [DrawsWithPython, DrawsWithTorch, DrawsWithNumpy], ids=lambda made: made.__name__)
def test_random_numbers_of_its_own_that_are_not_saved_are_found(draws):
    assert failure(draws).startswith("Resumed from what state_dict returned, the advantage of example 0")


@pytest.mark.parametrize("saves", [SavesPython, SavesTorch, SavesNumpy], ids=lambda made: made.__name__)
def test_random_numbers_of_its_own_that_are_saved_go_on(saves):
    assert seen(saves) == "the same to the bit, with random saved"


class Saves:
    def state_dict(self):
        return dict(vars(self))

    def load_state_dict(self, state):
        vars(self).update(state)


class SavedMetric(Saves, broken_metrics.Smoothed):
    pass


class SavedExtension(Saves, broken_extensions.RunningMean):
    pass


class SavedEnvironment(Saves, broken_environments.Counts):
    pass


@pytest.mark.parametrize(
    "saved", [broken_losses.LearnsAndSaves, SavedMetric, SavedExtension, SavedEnvironment], ids=lambda made: made.__name__
)
def test_state_that_is_saved_passes_in_every_kind(saved):
    assert seen(saved).startswith("the same to the bit, with ")


class Remembers(broken_environments.Sums):
    """Keeps the latest rollouts, and does nothing with them."""

    def score(self, rollouts):
        self.latest = [rollout["completion"] for rollout in rollouts]
        return super().score(rollouts)


def test_state_on_which_nothing_depends_is_a_warning():
    text = "warning: it changes self.latest when it is called, and has no state_dict"
    assert seen(Remembers).startswith(text)


def test_undeclared_state_that_matters_fails_one_check_and_no_other():
    with pytest.raises(NotRun, match="needs state, which failed"):
        seen(broken_advantages.Cools)


def test_where_nothing_is_kept_the_check_does_not_apply():
    for name in ("rloo", "ppo_clip", "completion_length", "arithmetic"):
        with pytest.raises(NotApplicable, match="it keeps no state"):
            seen(name)


class StopsLate:
    """Its state shows in the hooks of a step alone: the veto after three steps, and what it reports."""

    def __init__(self):
        self.steps = 0

    @hookimpl
    def before_update(self, grad_norm):
        return self.steps < 3

    @hookimpl
    def on_step_end(self, step):
        self.steps += 1

    @hookimpl(wrapper=True)
    def compute_metrics(self, inputs):
        measures = yield
        return {**measures, "stops_late/steps": float(self.steps)}


class StopsLateAndForgets(StopsLate):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class StopsLateAndSaves(Saves, StopsLate):
    pass


class WeighsLess(StopsLate):
    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        inputs = yield
        return replace(inputs, advantages=inputs.advantages / (1 + self.steps))

    before_update = None
    compute_metrics = None


def test_what_an_extension_counts_in_any_hook_is_looked_at():
    assert "Resumed without self.steps, which nothing saves, the metric 'stops_late/steps'" in failure(StopsLate)
    assert "Resumed without self.steps, which nothing saves, the loss of sequence 0" in failure(WeighsLess)
    assert "Resumed from what state_dict returned, the metric 'stops_late/steps'" in failure(StopsLateAndForgets)
    assert seen(StopsLateAndSaves) == "the same to the bit, with steps saved"
