"""Losses that are correct and unusual, by name: no check may blame them."""

from collections.abc import Callable

import torch

import plugrad
from plugrad import BatchLossInputs, LossInputs, LossOutputs, Mean, finite_exp, loss

CORRECT: dict[str, Callable] = {}


def correct(**facts):
    """Note a correct loss, and mark it."""

    def note(target):
        CORRECT[target.__name__] = target
        return loss(**facts)(target)

    return note


def _log_ratio(inputs, other="inference_logprobs"):
    return torch.where(inputs.loss_mask, inputs.trainer_logprobs - getattr(inputs, other), 0.0)


def _clipped(ratio, advantages):
    return -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)


def _truncation(inputs):
    """The weight of the trainer's log-probs against the engine's, at most 2."""
    mismatch = torch.where(inputs.loss_mask, inputs.old_logprobs - inputs.inference_logprobs, 0.0)
    return finite_exp(mismatch).clamp(max=2).detach()


@correct(needs={"old_logprobs"}, policy_gradient=True)
def clips_with_truncated_importance_sampling(inputs: BatchLossInputs) -> LossOutputs:
    ratio = finite_exp(_log_ratio(inputs, "old_logprobs"))
    return LossOutputs(_clipped(ratio, inputs.advantages) * _truncation(inputs))


@correct(needs={"old_logprobs"})
def bounds_the_ratio_with_truncated_importance_sampling(inputs: LossInputs) -> LossOutputs:
    ratio = finite_exp(_log_ratio(inputs, "old_logprobs")).clamp(max=1.2)
    return LossOutputs(-ratio * inputs.advantages * _truncation(inputs))


@correct()
def weighs_by_a_detached_ratio(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-finite_exp(_log_ratio(inputs)).detach() * inputs.advantages * inputs.trainer_logprobs)


@correct()
def weighs_by_the_ratio_of_the_prefix(inputs: LossInputs) -> LossOutputs:
    prefix = finite_exp(_log_ratio(inputs).cumsum(0)).detach()
    return LossOutputs(-prefix * inputs.advantages * inputs.trainer_logprobs)


@correct()
def clips_the_ratio_of_the_prefix(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(_clipped(finite_exp(_log_ratio(inputs).cumsum(1)), inputs.advantages))


@correct()
def leaves_out_stale_tokens(inputs: BatchLossInputs) -> LossOutputs:
    kept = _log_ratio(inputs).abs() < 12
    return LossOutputs(-torch.where(kept, inputs.advantages * inputs.trainer_logprobs, 0.0))


@correct()
def leaves_out_improbable_tokens(inputs: BatchLossInputs) -> LossOutputs:
    kept = inputs.trainer_logprobs.detach() > -9
    return LossOutputs(-torch.where(kept, inputs.advantages * inputs.trainer_logprobs, 0.0))


@correct()
def weighs_by_probability(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs.exp().detach() * inputs.advantages * inputs.trainer_logprobs)


@correct(policy_gradient=True)
def clips_twice(inputs: BatchLossInputs) -> LossOutputs:
    advantages = inputs.advantages
    clipped = _clipped(finite_exp(_log_ratio(inputs)), advantages)
    return LossOutputs(torch.where(advantages < 0, torch.minimum(clipped, -3 * advantages), clipped))


@correct(needs={"ref_logprobs"})
def adds_a_penalty(inputs: BatchLossInputs) -> LossOutputs:
    penalty = plugrad.k3(torch.where(inputs.loss_mask, inputs.ref_logprobs - inputs.trainer_logprobs, 0.0))
    return LossOutputs(_clipped(finite_exp(_log_ratio(inputs)), inputs.advantages) + 0.1 * penalty)


@correct()
class KeepsNumbers:
    """A ring of numbers, none of which matters to the loss."""

    def __init__(self):
        self.kept = []

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        self.kept = [inputs.trainer_logprobs.detach(), {"mean": float(inputs.advantages.mean())}]
        return LossOutputs(-inputs.trainer_logprobs * inputs.advantages)


@correct()
def detaches_the_ratio_beyond_its_bounds(inputs: BatchLossInputs) -> LossOutputs:
    ratio = finite_exp(_log_ratio(inputs))
    kept = (ratio > 0.8) & (ratio < 1.2)
    return LossOutputs(-torch.where(kept, ratio, ratio.detach()) * inputs.advantages)


@correct(reduction="sequence")
def counts_in_float32(inputs: LossInputs) -> LossOutputs:
    counted = inputs.loss_mask.float()
    praised = Mean.over((inputs.advantages > 0).float(), inputs.loss_mask)
    per_token = -inputs.trainer_logprobs * inputs.advantages * counted
    return LossOutputs(per_token.sum(), {"praised": praised, "tokens": counted.sum()})


@correct()
def bounds_the_ratio_from_above(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-finite_exp(_log_ratio(inputs)).clamp(max=8) * inputs.advantages)


@correct()
def discounts_from_the_end(inputs: LossInputs) -> LossOutputs:
    left = inputs.loss_mask.flip(0).cumsum(0).flip(0)
    return LossOutputs(-(0.9**left) * inputs.advantages * inputs.trainer_logprobs)


@correct()
def discounts_from_the_start(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-(0.9 ** inputs.loss_mask.cumsum(1)) * inputs.advantages * inputs.trainer_logprobs)


@correct()
def weighs_by_the_ratio_of_the_sequence(inputs: LossInputs) -> LossOutputs:
    ratio = finite_exp((_log_ratio(inputs) * inputs.loss_mask).sum()).clamp(max=1).detach()
    return LossOutputs(-ratio * inputs.advantages * inputs.trainer_logprobs)


@correct(reduction="sequence")
def clips_the_mean_ratio_of_the_sequence(inputs: BatchLossInputs) -> LossOutputs:
    lengths = inputs.loss_mask.sum(1, keepdim=True)
    ratio = finite_exp((_log_ratio(inputs) * inputs.loss_mask).sum(1, keepdim=True) / lengths)
    return LossOutputs(_clipped(ratio, inputs.advantages))


@correct(needs={"values", "old_values", "returns"}, policy_gradient=False)
def keeps_a_critic_near_its_old_values(inputs: BatchLossInputs) -> LossOutputs:
    near = inputs.old_values + (inputs.values - inputs.old_values).clamp(-0.1, 0.1)
    return LossOutputs(torch.maximum((inputs.values - inputs.returns).square(), (near - inputs.returns).square()))
