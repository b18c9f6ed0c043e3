"""Inputs that are made wrongly, and loaded components that are called wrongly: one sentence of ours about the field."""

import numpy as np
import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, AdvantageOutputs, ContractError, LossInputs, LossOutputs

FIVE = torch.zeros(5)
FIELDS = {"trainer_logprobs": FIVE, "inference_logprobs": FIVE, "advantages": FIVE, "loss_mask": FIVE > 0}
WRONG = {
    "another length": (
        {"advantages": torch.zeros(3)},
        r"advantages = a tensor of float32 of shape \[3\]\. It takes a ",
    ),
    "as elsewhere": ({"advantages": torch.zeros(3)}, r"shape \[seq\], where seq is 5 as in trainer_logprobs\.$"),
    "whole numbers": (
        {"advantages": FIVE.long()},
        r"advantages = a tensor of int64 of shape \[5\]\. It takes a float",
    ),
    "None": ({"advantages": None}, r"advantages = None\. It takes a float tensor"),
    "floats for a mask": ({"loss_mask": FIVE}, r"loss_mask = a tensor of float32 .* It takes a bool tensor"),
    "an array": ({"trainer_logprobs": np.zeros(5)}, r"= a NumPy array of float64 of shape \[5\]\. .* Pass torch\.as_tensor"),
    "a list": (
        {"trainer_logprobs": [0.0] * 5},
        r"trainer_logprobs = a list whose first entry is a float\. .* Pass torch\.as_tensor",
    ),
    "a batch": ({"trainer_logprobs": torch.zeros(2, 5)}, r"of shape \[2, 5\]\. It takes a float tensor of shape \[seq\]"),
    "complex": ({"trainer_logprobs": FIVE.to(torch.complex64)}, "a tensor of complex64"),
    "a float": ({"reward": 1.0}, r"reward = a float\. It takes a float tensor with one element and no dimension"),
    "text": ({"step": "a"}, r"step = a str\. It takes an int"),
    "no mapping": ({"metadata": [1]}, "metadata = a list"),
}
COMPONENTS = [("loss", "ppo_clip"), ("advantage", "group_normalized"), ("metric", "entropy")]


@pytest.mark.parametrize(("given", "complaint"), WRONG.values(), ids=WRONG)
def test_a_wrong_field_is_named_with_what_was_found_and_what_is_wanted(given, complaint):
    with pytest.raises(ContractError, match=rf"^plugrad\.LossInputs was given .*{complaint}") as caught:
        LossInputs(**{**FIELDS, **given})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: LossInputs(trainer_logprobs=FIVE), "was made without inference_logprobs, advantages, loss_mask. It needs"),
        (
            lambda: LossInputs(**FIELDS, rewards=FIVE),
            "has no field rewards. Did you mean 'reward'. It has trainer_logprobs, ",
        ),
        (lambda: LossOutputs(losses=FIVE), "has no field losses. Did you mean 'loss'. It has loss, metrics"),
        (LossOutputs, "was made without loss. It needs loss"),
        (lambda: LossOutputs(FIVE, {}, 1), "was made with 3 values without a name. It has loss, metrics"),
        (lambda: LossOutputs(FIVE, loss=FIVE), "cannot be made: TypeError: .*multiple values for argument 'loss'"),
        (AdvantageOutputs, "was made without advantages"),
        (lambda: AdvantageOutputs(advantage=FIVE), "has no field advantage. Did you mean 'advantages'"),
        (lambda: LossInputs(FIVE, FIVE, FIVE, FIVE > 0), "takes keywords alone"),
        (lambda: AdvantageInputs(rewards=[[1.0]], completion_lengths=[[1]]), "rewards = a list"),
        (lambda: AdvantageInputs(rewards=np.zeros((1, 2)), completion_lengths=torch.ones(1, 2).long()), ".* a NumPy array"),
        (lambda: AdvantageInputs(rollouts=[[{}]]), "cannot be made: KeyError: 'reward'"),
    ],
)
def test_other_mistakes_are_named_too(make, complaint):
    with pytest.raises(ContractError, match=rf"^plugrad\.\w+ (was given )?{complaint}"):
        make()


def test_right_inputs_are_made_as_before():
    inputs = LossInputs(**FIELDS, reward=torch.tensor(1.0), logits=torch.zeros(5, 7))
    assert inputs.trainer_logprobs is FIVE
    assert (inputs.step, inputs.metadata) == (0, None)


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
@pytest.mark.parametrize(
    ("given", "named"),
    [((), {}), ((), {"trainer_logprobs": FIVE}), ((FIVE, FIVE), {}), ((FIVE,), {"clip_low": 0.1}), ((None, 1), {})],
)
def test_a_component_that_is_called_otherwise_says_what_it_takes(kind, name, given, named):
    component = plugrad.load(kind, name)
    with pytest.raises(ContractError, match=rf"'{name}'.* was called wrongly: .*takes one argument, of type \w+Inputs"):
        component(*given, **named)


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
@pytest.mark.parametrize("inputs", [None, FIVE, np.zeros(5), [0.0], {"rewards": FIVE}])
def test_a_component_that_is_called_with_something_else_says_what_it_takes(kind, name, inputs):
    with pytest.raises(ContractError, match=r"was called with \w+; it takes plugrad\.\w+Inputs"):
        plugrad.load(kind, name)(inputs)
