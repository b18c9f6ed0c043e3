"""Metrics that each break one promise. The decorator names the check that is made for it, and one that must see it too."""

import statistics

import torch
from breaking import noted

from plugrad import Max, Mean, MetricInputs, metric

BROKEN, breaks = noted(metric)


def log_ratio_of(inputs):
    if inputs.inference_logprobs is None:
        return None
    return torch.where(inputs.loss_mask, inputs.trainer_logprobs - inputs.inference_logprobs, 0.0)


def ratio_of(inputs):
    log_ratio = log_ratio_of(inputs)
    return None if log_ratio is None else log_ratio.exp()


@breaks("runs")
def no_mapping(inputs: MetricInputs):
    return Mean.of(inputs.rewards)


@breaks("runs")
def two_dimensions(inputs: MetricInputs):
    return {"logprobs": inputs.trainer_logprobs}


@breaks("runs")
def mean_of_nothing(inputs: MetricInputs):
    return {"mean": Mean.of(reward for reward in inputs.rewards.tolist() if reward > 100)}


@breaks("runs")
def reads_what_it_did_not_ask_for(inputs: MetricInputs):
    return {"entropy": Mean.over(inputs.entropy, inputs.loss_mask)}


@breaks("adds_up")
def a_mean_that_forgets_its_count(inputs: MetricInputs):
    return {"logprob": inputs.trainer_logprobs[inputs.loss_mask].mean()}


@breaks("group_order")
def the_first_group(inputs: MetricInputs):
    return {"first": Mean.of(rollout["reward"] for rollout in inputs.rollouts[0])}


@breaks("rollout_order")
def the_first_rollouts(inputs: MetricInputs):
    return {"first": Mean.of(group[0]["reward"] for group in inputs.rollouts)}


@breaks("masked_slots")
def the_greatest_of_all_slots(inputs: MetricInputs):
    return {"surprise": Max(inputs.trainer_logprobs.abs().max())}


@breaks("padding")
def a_share_of_all_slots(inputs: MetricInputs):
    return {"counted": Mean.of(inputs.loss_mask.double().flatten())}


@breaks("replayed")
def needs_an_engine(inputs: MetricInputs):
    return {"mismatch": Mean.over(inputs.trainer_logprobs - inputs.inference_logprobs, inputs.loss_mask)}


@breaks("one_rollout")
def deviation_of_a_group(inputs: MetricInputs):
    return {"std": Mean.of(statistics.stdev(r["reward"] for r in group) for group in inputs.rollouts)}


@breaks("large_ratios")
def an_infinite_ratio(inputs: MetricInputs):
    ratio = ratio_of(inputs)
    return {} if ratio is None else {"ratio": Max(ratio.max())}


@breaks("small_differences")
def a_difference_of_nearly_equal_numbers(inputs: MetricInputs):
    log_ratio = log_ratio_of(inputs)
    if log_ratio is None:
        return {}
    k3 = log_ratio.clamp(max=20).exp() - log_ratio - 1
    return {"kl": Mean.over(k3, inputs.loss_mask)}


@breaks("runs")
def reads_a_column(inputs: MetricInputs):
    return {"difficulty": Mean.of(group[0]["example"]["difficulty"] for group in inputs.rollouts)}


@breaks("detached")
def switches_gradients_on(inputs: MetricInputs):
    with torch.enable_grad():
        logprobs = inputs.trainer_logprobs.clone().requires_grad_()
        return {"logprob": Mean((logprobs * inputs.loss_mask).sum(), inputs.loss_mask.sum())}


@breaks("needs", needs={"ref_logprobs"})
def asks_for_what_it_does_not_read(inputs: MetricInputs):
    return {"reward": Mean.of(inputs.rewards)}


@breaks("inputs_unchanged")
def in_place(inputs: MetricInputs):
    return {"size": Mean.over(inputs.advantages.abs_(), inputs.loss_mask)}


@breaks("inputs_unchanged")
def sorts_the_rollouts(inputs: MetricInputs):
    for group in inputs.rollouts:
        group.sort(key=lambda rollout: rollout["reward"])
    return {"reward": Mean.of(inputs.rewards)}


@breaks("precision")
def means_in_float32(inputs: MetricInputs):
    return {"logprob": Mean.over(inputs.trainer_logprobs.float(), inputs.loss_mask), "solved": Mean.of(inputs.rewards > 0.5)}


@breaks("deterministic")
def of_one_drawn_rollout(inputs: MetricInputs):
    return {"noise": Mean.of(torch.rand(1).expand(len(inputs.rewards)))}


@breaks("state")
class Smoothed:
    """A running mean, that nobody saves."""

    def __init__(self):
        self.last = {}

    def __call__(self, inputs: MetricInputs):
        # Each example by itself, so that the shares of ranks add up.
        found = [self.smooth(group[0]["example"]["example_id"], group) for group in inputs.rollouts]
        return {"reward": Mean.of(found)}

    def smooth(self, example, group):
        mean = statistics.fmean(rollout["reward"] for rollout in group)
        self.last[example] = 0.5 * self.last.get(example, mean) + 0.5 * mean
        return self.last[example]


@breaks("resumes")
class ForgetsItsState(Smoothed):
    """Declares state, and saves none of it."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@breaks("options_from_toml")
def takes_a_function(inputs: MetricInputs, of: object = statistics.fmean):
    return {"reward": Mean.of(of(rollout["reward"] for rollout in group) for group in inputs.rollouts)}
