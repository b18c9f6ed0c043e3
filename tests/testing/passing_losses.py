"""Losses that ask for further passes: correct ones, and those that each break a promise with them."""

import torch

from plugrad import BatchLossInputs, LossOutputs, Mean, loss

BROKEN = {}
"""By name: the checks that find it."""


def breaks(*checks):
    """Note which checks a loss must fail."""

    def note(target):
        BROKEN[target.__name__] = set(checks)
        return target

    return note


def per_token_of(logprobs, inputs):
    return -inputs.advantages * logprobs


def worst_within(sensitivity, eps=0.1):
    return eps * torch.nn.functional.normalize(sensitivity, dim=-1)


@loss(needs={"again"}, passes=2, policy_gradient=True)
def adversarial(inputs: BatchLossInputs) -> LossOutputs:
    per_token = per_token_of(inputs.trainer_logprobs, inputs)
    shift = worst_within(inputs.sensitivity((per_token * inputs.loss_mask).sum()))
    moved = per_token_of(inputs.again(shift).trainer_logprobs, inputs)
    return LossOutputs(per_token + 0.5 * moved, {"rise": Mean.over(moved - per_token, inputs.loss_mask)})


@loss(needs={"again", "entropy"}, passes=3)
def two_steps(inputs: BatchLossInputs) -> LossOutputs:
    shift, per_token = 0, per_token_of(inputs.trainer_logprobs, inputs) - 0.1 * inputs.entropy
    for _ in range(2):
        shift = shift + worst_within(inputs.sensitivity((per_token * inputs.loss_mask).sum()))
        found = inputs.again(shift)
        per_token = per_token_of(found.trainer_logprobs, inputs) - 0.1 * found.entropy
    return LossOutputs(per_token)


CORRECT = [adversarial, two_steps]


@breaks("needs")
@loss(needs={"again"}, passes=2)
def never_calls(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(per_token_of(inputs.trainer_logprobs, inputs))


@breaks("runs")
@loss(needs={"again"}, passes=2)
def calls_twice(inputs: BatchLossInputs) -> LossOutputs:
    per_token = per_token_of(inputs.trainer_logprobs, inputs)
    shift = worst_within(inputs.sensitivity((per_token * inputs.loss_mask).sum()))
    return LossOutputs(per_token + inputs.again(shift).trainer_logprobs + inputs.again(-shift).trainer_logprobs)


@breaks("micro_batches")
@loss(needs={"again"}, passes=2)
def normalises_over_the_micro_batch(inputs: BatchLossInputs) -> LossOutputs:
    per_token = per_token_of(inputs.trainer_logprobs, inputs)
    found = inputs.sensitivity((per_token * inputs.loss_mask).sum())
    return LossOutputs(per_token + per_token_of(inputs.again(0.1 * found / (found.norm() + 1e-9)).trainer_logprobs, inputs))


@breaks("runs")
@loss(needs={"again"}, passes=2)
def divides_by_no_sensitivity(inputs: BatchLossInputs) -> LossOutputs:
    per_token = per_token_of(inputs.trainer_logprobs, inputs)
    found = inputs.sensitivity((per_token * inputs.loss_mask).sum())
    return LossOutputs(per_token_of(inputs.again(found / found.norm(dim=-1, keepdim=True)).trainer_logprobs, inputs))
