"""Losses that each break a promise. The decorator names the check that is made for it, and those that must see it too."""

import os
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from plugrad import BatchLossInputs, LossInputs, LossOutputs, Max, Mean, Sum, k3, loss

BROKEN = {}


def breaks(check, *also, **facts):
    """Note which checks a loss must fail, and mark it."""

    def note(target):
        BROKEN[target.__name__] = (check, {check, *also})
        return loss(**facts)(target)

    return note


def policy_gradient(inputs):
    return -inputs.trainer_logprobs * inputs.advantages


def bounded_exp(log_ratio):
    """exp, with its tangent beyond 1: finite, and with a direction everywhere."""
    return log_ratio.clamp(max=1).exp() * (1 + (log_ratio - 1).relu())


def in_float32_at_least(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _log_ratio(inputs):
    return torch.where(inputs.loss_mask, inputs.trainer_logprobs - inputs.inference_logprobs, 0.0)


@breaks("runs")
def takes_the_log_of_zero(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) + (inputs.advantages * 0).log())


@breaks("runs")
def has_a_gradient_that_is_not_finite(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) + (inputs.trainer_logprobs * 0).sqrt())


@breaks("runs")
def detaches_everything(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs).detach())


@breaks("runs")
def reads_what_it_did_not_ask_for(inputs: LossInputs) -> LossOutputs:
    return LossOutputs((inputs.trainer_logprobs - inputs.old_logprobs).exp())


@breaks("runs")
def misspells_a_field(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs * inputs.advantage)


@breaks("runs")
def leaves_out_whose_log_probs(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-inputs.logprobs * inputs.advantages)


@breaks("runs", needs={"entropy"})
def asserts_what_it_did_not_ask_for(inputs: BatchLossInputs) -> LossOutputs:
    assert inputs.ref_logprobs is not None
    return LossOutputs(policy_gradient(inputs) + _distance(inputs.trainer_logprobs, inputs.old_logprobs))


@breaks("runs")
def hands_on_what_it_did_not_ask_for(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) + _distance(inputs.trainer_logprobs, inputs.old_logprobs))


def _distance(one, other):
    return (one - other).abs()


@breaks("runs")
def looks_for_a_key(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) * {"long": 1.0}["short"])


@breaks("runs")
def reads_a_column(inputs: BatchLossInputs) -> LossOutputs:
    weights = [row["difficulty"] for row in inputs.metadata]
    return LossOutputs(policy_gradient(inputs) * inputs.advantages.new_tensor(weights).unsqueeze(1))


@breaks("runs")
def returns_a_scalar(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs((policy_gradient(inputs) * inputs.loss_mask).sum())


@breaks("runs")
def clears_masked_slots_of_a_ratio(inputs: BatchLossInputs) -> LossOutputs:
    ratio = (inputs.trainer_logprobs - inputs.inference_logprobs).exp()
    ratio[~inputs.loss_mask] = 0
    return LossOutputs(-ratio * inputs.advantages)


@breaks("runs")
class LearnsATemperature(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.temperature = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs: BatchLossInputs) -> LossOutputs:
        return LossOutputs(policy_gradient(inputs) / self.temperature)

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        return self.forward(inputs)


@breaks("runs")
class HoldsAHead:
    def __init__(self):
        self.heads = {"value": torch.nn.Linear(1, 1)}

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        return LossOutputs(policy_gradient(inputs))


SHARED = torch.nn.Parameter(torch.ones(2))


@breaks("runs")
def scales_by_a_global(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) * SHARED[0])


def _scale():
    return SHARED[1]


@breaks("runs")
def scales_by_what_a_helper_holds(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) * _scale())


@breaks("gradient_flow")
def pushes_the_prompt(inputs: BatchLossInputs) -> LossOutputs:
    moves = inputs.trainer_logprobs - inputs.trainer_logprobs.detach()
    return LossOutputs(torch.where(inputs.loss_mask, policy_gradient(inputs), moves).sum(1))


@breaks("own_sequence")
def pushes_the_next_sequence(inputs: BatchLossInputs) -> LossOutputs:
    # Of no value, and of no gradient either where all sequences are added up.
    moves = (inputs.trainer_logprobs - inputs.trainer_logprobs.detach()) * inputs.loss_mask
    return LossOutputs(
        (policy_gradient(inputs) * inputs.loss_mask + moves - moves.roll(1, 0).roll(-1, 0)).sum(1) + _ring(moves)
    )


def _ring(moves):
    totals = moves.sum(1)
    return totals.roll(1) - totals


@breaks("masked_slots")
def sums_what_is_masked(inputs: BatchLossInputs) -> LossOutputs:
    counted = policy_gradient(inputs) * inputs.loss_mask
    return LossOutputs(counted.sum(1) + inputs.inference_logprobs.sum(1))


@breaks("masked_slots")
def weighs_by_what_is_in_masked_slots(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-inputs.advantages.exp() * inputs.trainer_logprobs)


@breaks("padding")
def counts_the_width(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs((policy_gradient(inputs) * inputs.loss_mask).mean(1))


@breaks("padding")
def counts_the_prompt(inputs: LossInputs) -> LossOutputs:
    return LossOutputs((policy_gradient(inputs) * inputs.loss_mask).mean())


@breaks("padding")
def divides_by_the_length_of_the_text(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) / len(inputs.loss_mask))


@breaks("permutation")
def numbers_the_rows(inputs: BatchLossInputs) -> LossOutputs:
    rows = torch.arange(len(inputs.loss_mask)).unsqueeze(1)
    return LossOutputs(policy_gradient(inputs) * (1 + rows))


@breaks("micro_batches")
def divides_by_its_own_counts(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) / inputs.loss_mask.sum())


@breaks("micro_batches")
def centres_advantages_over_the_micro_batch(inputs: BatchLossInputs) -> LossOutputs:
    counted = inputs.advantages[inputs.loss_mask]
    return LossOutputs(-inputs.trainer_logprobs * (inputs.advantages - counted.mean()))


@breaks("micro_batches")
def has_a_gradient_that_depends_on_the_cut(inputs: BatchLossInputs) -> LossOutputs:
    policy = inputs.trainer_logprobs
    return LossOutputs(-policy.detach() - (policy - policy.detach()) / len(policy))


@breaks("micro_batches")
def averages_over_the_micro_batch_and_says_so_in_a_metric(inputs: BatchLossInputs) -> LossOutputs:
    mean = (policy_gradient(inputs) * inputs.loss_mask).sum() / inputs.loss_mask.sum()
    values = mean.expand(inputs.loss_mask.shape) / inputs.loss_mask.sum()
    return LossOutputs(values, {"mean": Mean.over(values, inputs.loss_mask)})


@breaks("emptied_rows")
def knows_how_many_tokens_are_left(inputs: BatchLossInputs) -> LossOutputs:
    if inputs.loss_mask.sum() == 37:
        raise RuntimeError("sequences are missing")
    return LossOutputs(policy_gradient(inputs))


@breaks("micro_batches")
def wants_every_group_whole(inputs: BatchLossInputs) -> LossOutputs:
    if len(inputs.loss_mask) != 7:
        raise RuntimeError("a rollout of a group is missing")
    return LossOutputs(policy_gradient(inputs))


@breaks("inputs_unchanged")
def scales_advantages_in_place(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs * inputs.advantages.mul_(0.5))


@breaks("inputs_unchanged")
def clears_masked_slots_of_its_inputs(inputs: BatchLossInputs) -> LossOutputs:
    inputs.trainer_logprobs[~inputs.loss_mask] = 0
    return LossOutputs(policy_gradient(inputs))


@breaks("inputs_unchanged")
def clears_masked_slots_of_a_sequence(inputs: LossInputs) -> LossOutputs:
    inputs.trainer_logprobs[~inputs.loss_mask] = 0
    return LossOutputs(policy_gradient(inputs))


@breaks("inputs_unchanged")
def writes_into_the_examples(inputs: BatchLossInputs) -> LossOutputs:
    for row in inputs.metadata:
        row["seen"] = True
    return LossOutputs(policy_gradient(inputs))


@breaks("deterministic")
def adds_noise(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) * torch.rand(()))


@breaks("deterministic")
def drops_tokens_at_random(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) * (torch.rand_like(inputs.trainer_logprobs) < 0.9))


@breaks("precision")
def widens_its_inputs_to_float32(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs.float() * inputs.advantages.float())


@breaks("precision")
def passes_through_float32(inputs: LossInputs) -> LossOutputs:
    per_token = -inputs.trainer_logprobs.float() * inputs.advantages
    return LossOutputs((per_token * inputs.loss_mask).sum())


@breaks("precision", needs={"old_logprobs"}, policy_gradient=True)
def clips_a_ratio_in_float32(inputs: BatchLossInputs) -> LossOutputs:
    policy, old = inputs.trainer_logprobs.float(), inputs.old_logprobs.float()
    ratio, advantages = bounded_exp(torch.where(inputs.loss_mask, policy - old, 0.0)), inputs.advantages
    return LossOutputs(-torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages))


@breaks("precision", needs={"ref_logprobs"})
def has_a_small_penalty_in_float32(inputs: BatchLossInputs) -> LossOutputs:
    d = (inputs.ref_logprobs - inputs.trainer_logprobs).float()
    return LossOutputs(policy_gradient(inputs) + 0.1 * k3(torch.where(inputs.loss_mask, d, 0.0)))


@breaks("precision")
def reports_a_metric_in_float32(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs), {"mean": Mean.over(inputs.trainer_logprobs.float(), inputs.loss_mask)})


@breaks("precision")
def computes_in_float16(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-(inputs.trainer_logprobs.half() * inputs.advantages.half()))


@breaks("precision")
def has_a_ratio_in_bfloat16(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-bounded_exp(_log_ratio(inputs).bfloat16()) * inputs.advantages)


@breaks("state")
class CountsItsCalls:
    def __init__(self):
        self.calls = 0

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        self.calls += 1
        return LossOutputs(policy_gradient(inputs) * self.calls)


@breaks("state")
class KeepsItsLosses:
    def __init__(self):
        self.kept = []

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        self.kept.append(policy_gradient(inputs))
        return LossOutputs(self.kept[-1])


@breaks("state")
class KeepsGraphsFurtherDown:
    def __init__(self):
        self.latest = {"sequences": deque(maxlen=3)}

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        self.latest["sequences"].append((inputs.step, {"log-probs": inputs.trainer_logprobs}))
        return LossOutputs(policy_gradient(inputs))


@breaks("state")
class KeepsItsInputs:
    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        self.latest = inputs
        return LossOutputs(policy_gradient(inputs))


KEPT = []


@breaks("state")
def keeps_its_losses_in_a_global(inputs: BatchLossInputs) -> LossOutputs:
    KEPT.append(policy_gradient(inputs))
    return LossOutputs(KEPT[-1])


class Learns:
    """Divides by the mean length of the sequences in the update before."""

    def __init__(self):
        self.length = 1.0

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        return LossOutputs(policy_gradient(inputs) / self.length, {"length": inputs.loss_mask.sum(1).double()})

    def after_update(self, measures):
        self.length = measures["length"]


@breaks("state")
class LearnsWithoutSaving(Learns):
    pass


@breaks("resumes")
class ForgetsItsState(Learns):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Saves:
    def state_dict(self):
        return dict(vars(self))

    def load_state_dict(self, state):
        vars(self).update(state)


class LearnsAndSaves(Learns, Saves):
    """Breaks nothing."""


@breaks("after_update")
class LearnsFromItsCalls(Saves):
    def __init__(self):
        self.tokens, self.seen = 1.0, 0.0

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        self.seen += float(inputs.loss_mask.sum())
        return LossOutputs(policy_gradient(inputs) / self.tokens)

    def after_update(self, measures):
        self.tokens, self.seen = self.seen + 1, 0.0


@breaks("needs", needs={"ref_logprobs", "old_logprobs"})
def asks_for_a_reference_that_it_does_not_read(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) + 0.1 * (inputs.trainer_logprobs - inputs.old_logprobs))


@breaks("needs", needs={"input_ids"})
def asks_for_tokens_that_it_does_not_read(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs))


@breaks("sums_tokens")
def takes_the_mean_of_a_sequence(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs)[inputs.loss_mask].mean())


@breaks("sums_tokens", reduction="sequence")
def takes_the_mean_of_a_row(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs((policy_gradient(inputs) * inputs.loss_mask).sum(1) / inputs.loss_mask.sum(1))


@breaks("sums_tokens", policy_gradient=True)
def divides_every_token_by_the_length(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) / inputs.loss_mask.sum(1, keepdim=True))


@breaks("sums_tokens")
def divides_by_the_root_of_the_length(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) / inputs.loss_mask.sum(1, keepdim=True).sqrt())


@breaks("sums_tokens")
def divides_by_one_more_than_the_length(inputs: LossInputs) -> LossOutputs:
    return LossOutputs((policy_gradient(inputs) * inputs.loss_mask).sum() / (1 + inputs.loss_mask.sum()))


@breaks("sums_tokens", needs={"entropy"})
def divides_an_entropy_by_the_root_of_the_length(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(-inputs.entropy / inputs.loss_mask.sum().sqrt())


@breaks("clip_side", policy_gradient=True)
def takes_the_larger_of_two_objectives(inputs: BatchLossInputs) -> LossOutputs:
    ratio, advantages = bounded_exp(in_float32_at_least(_log_ratio(inputs))), inputs.advantages
    return LossOutputs(-torch.maximum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages))


@breaks("clip_side")
def takes_the_smaller_of_two_losses(inputs: LossInputs) -> LossOutputs:
    ratio, advantages = bounded_exp(in_float32_at_least(_log_ratio(inputs))), inputs.advantages
    return LossOutputs(torch.minimum(-ratio * advantages, -ratio.clamp(0.8, 1.2) * advantages))


@breaks("clip_side")
def clips_on_both_sides(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-bounded_exp(in_float32_at_least(_log_ratio(inputs))).clamp(0.8, 1.2) * inputs.advantages)


@breaks("advantage_sign")
def has_the_sign_the_wrong_way_round_and_no_marker(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(-policy_gradient(inputs))


@breaks("advantage_sign", needs={"ref_logprobs"})
def has_the_sign_the_wrong_way_round_beside_a_penalty(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-policy_gradient(inputs) + (inputs.trainer_logprobs - inputs.ref_logprobs).abs())


@breaks("advantage_sign")
def detaches_the_log_prob(inputs: BatchLossInputs) -> LossOutputs:
    ratio = bounded_exp(in_float32_at_least(_log_ratio(inputs)))
    return LossOutputs(-ratio * inputs.advantages * inputs.trainer_logprobs.detach())


@breaks("advantage_sign", policy_gradient=True)
def has_the_sign_the_wrong_way_round(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(-policy_gradient(inputs))


@breaks("advantage_sign", policy_gradient=True)
def learns_from_praise_alone(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs * inputs.advantages.clamp(min=0))


@breaks("zero_advantage", policy_gradient=True, needs={"ref_logprobs"})
def hides_a_penalty(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) + 0.1 * (inputs.ref_logprobs - inputs.trainer_logprobs).abs())


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return 2 * grad


@breaks("gradcheck")
def has_a_backward_of_its_own_that_is_wrong(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(Doubled.apply(policy_gradient(inputs)))


@breaks("bfloat16")
def goes_through_numpy(inputs: BatchLossInputs) -> LossOutputs:
    weights = torch.from_numpy(abs(inputs.advantages.numpy())).to(inputs.advantages)
    return LossOutputs(policy_gradient(inputs) * weights)


@breaks("bfloat16")
def clips_a_ratio_near_1_in_few_digits(inputs: BatchLossInputs) -> LossOutputs:
    ratio = bounded_exp(_log_ratio(inputs))
    clipped = ratio.clamp(1 - 3e-4, 1 + 4e-4)
    return LossOutputs(-torch.minimum(ratio * inputs.advantages, clipped * inputs.advantages))


@breaks("float16")
def has_large_intermediate_numbers(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) * 3e5 / 3e5)


@breaks("small_differences", needs={"ref_logprobs"})
def subtracts_nearly_equal_numbers(inputs: BatchLossInputs) -> LossOutputs:
    d = in_float32_at_least(torch.where(inputs.loss_mask, inputs.ref_logprobs - inputs.trainer_logprobs, 0.0))
    return LossOutputs(bounded_exp(d) - d - 1)


@breaks("small_differences")
def reports_a_difference_of_nearly_equal_numbers(inputs: BatchLossInputs) -> LossOutputs:
    log_ratio = in_float32_at_least(_log_ratio(inputs)).detach()
    k3 = bounded_exp(log_ratio) - log_ratio - 1
    return LossOutputs(policy_gradient(inputs), {"kl": Mean.over(k3, inputs.loss_mask)})


@breaks("far_direction", needs={"ref_logprobs"})
def clamps_a_penalty(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs((inputs.trainer_logprobs - inputs.ref_logprobs).clamp(-20, 20).abs())


@breaks("far_direction")
def clamps_a_log_ratio(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-_log_ratio(inputs).clamp(-10, 10) * inputs.advantages)


@breaks("improbable_tokens")
def clamps_the_log_probs(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs.clamp(min=-3) * inputs.advantages)


@breaks("improbable_tokens")
def clamps_the_log_probs_of_examples(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs.clamp(min=-20))


@breaks("improbable_tokens")
def clamps_both_log_probs_of_a_ratio(inputs: BatchLossInputs) -> LossOutputs:
    difference = inputs.trainer_logprobs.clamp(min=-10) - inputs.inference_logprobs.clamp(min=-10)
    return LossOutputs(-bounded_exp(in_float32_at_least(difference)) * inputs.advantages)


@breaks("far_direction", needs={"ref_logprobs"})
def drops_a_penalty_where_it_is_needed(inputs: BatchLossInputs) -> LossOutputs:
    d = inputs.trainer_logprobs - inputs.ref_logprobs
    return LossOutputs(torch.where(inputs.loss_mask & (d.abs() < 20), d, 0.0).abs())


@breaks("runs")
def divides_by_the_deviation_of_advantages(inputs: LossInputs) -> LossOutputs:
    counted = inputs.advantages[inputs.loss_mask]
    deviation = counted.std() if len(counted) > 1 else counted.new_ones(())
    return LossOutputs(policy_gradient(inputs) / deviation)


@breaks("runs")
def divides_by_the_size_of_advantages(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) / (inputs.advantages * inputs.loss_mask).abs().max())


@breaks("runs")
def takes_the_root_of_a_difference(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) + _log_ratio(inputs).square().sqrt())


@breaks("runs")
def has_an_epsilon_that_float32_rounds_to_zero(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) * inputs.advantages.abs() / (inputs.advantages.abs() + 1e-60))


@breaks("float16")
def has_an_epsilon_that_float16_rounds_to_zero(inputs: BatchLossInputs) -> LossOutputs:
    size = inputs.advantages.abs()
    return LossOutputs(policy_gradient(inputs) * size / (size + 1e-8))


@breaks("large_ratios")
def has_an_epsilon_that_float16_rounds_to_zero_far_off(inputs: BatchLossInputs) -> LossOutputs:
    weight = torch.where(inputs.loss_mask, -_log_ratio(inputs).abs(), 0.0).exp().detach()
    return LossOutputs(policy_gradient(inputs) * weight / (weight + 1e-8))


@breaks("large_ratios")
def drops_a_token_after_exp(inputs: BatchLossInputs) -> LossOutputs:
    ratio = _log_ratio(inputs).exp()
    return LossOutputs(torch.where(ratio > 8, 0.0, -ratio * inputs.advantages))


@breaks("large_ratios")
def reports_an_infinite_metric(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs), {"ratio": Mean.over(_log_ratio(inputs).exp(), inputs.loss_mask)})


@breaks("large_ratios")
def multiplies_the_ratios_of_a_sequence(inputs: LossInputs) -> LossOutputs:
    log_ratio = (inputs.trainer_logprobs - inputs.inference_logprobs) * inputs.loss_mask
    return LossOutputs(-log_ratio.sum().exp() * (inputs.advantages * inputs.loss_mask).sum())


@breaks("metrics")
def hands_out_its_graph(inputs: BatchLossInputs) -> LossOutputs:
    values = policy_gradient(inputs) * inputs.loss_mask
    return LossOutputs(values, {"mean": Mean(values.sum(), inputs.loss_mask.sum())})


@breaks("metrics")
def hands_out_a_matrix(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs), {"all": inputs.advantages})


@breaks("metrics")
def reports_text(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs), {"kl": "0.5"})


@breaks("metrics")
def averages_praise(inputs: LossInputs) -> LossOutputs:
    praised = inputs.loss_mask & (inputs.advantages > 0)
    return LossOutputs(policy_gradient(inputs), {"praised": inputs.trainer_logprobs.detach()[praised].mean()})


@breaks("metrics_add_up")
def changes_its_mind(inputs: BatchLossInputs) -> LossOutputs:
    number = inputs.advantages[inputs.loss_mask].max()
    return LossOutputs(policy_gradient(inputs), {"greatest": Max(number) if len(inputs.loss_mask) > 3 else Sum(number)})


@breaks("metrics_add_up")
def averages_over_the_micro_batch(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs), {"advantage": inputs.advantages[inputs.loss_mask].mean()})


@breaks("metrics_add_up")
def averages_over_the_prompt_too(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs), {"advantage": inputs.advantages.mean()})


@breaks("options_from_toml")
def takes_a_function(inputs: LossInputs, shape: Callable[[Tensor], Tensor] = torch.relu) -> LossOutputs:
    return LossOutputs(shape(policy_gradient(inputs)))


@breaks("pickles")
class KeepsALambda:
    def __init__(self):
        self.weigh = lambda advantages: advantages / 2

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        return LossOutputs(-inputs.trainer_logprobs * self.weigh(inputs.advantages))


@breaks("one_rank_equals_two")
def divides_by_the_number_of_processes(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(policy_gradient(inputs) / int(os.environ.get("WORLD_SIZE", "1")))


@breaks("masked_nan")
def multiplies_by_the_mask(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs((policy_gradient(inputs) * inputs.loss_mask).sum(1))
