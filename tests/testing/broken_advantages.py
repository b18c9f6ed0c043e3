"""Advantages that each break one promise. The decorator names the check that is made for it."""

import torch
from breaking import noted

from plugrad import AdvantageInputs, AdvantageOutputs, advantage

BROKEN, breaks = noted(advantage)


def centred(rewards):
    return rewards - rewards.mean(dim=1, keepdim=True)


@breaks("runs")
def one_per_group(inputs: AdvantageInputs):
    return AdvantageOutputs(inputs.rewards.mean(dim=1, keepdim=True))


@breaks("runs")
def as_long_as_the_longest(inputs: AdvantageInputs):
    longest = int(inputs.completion_lengths.max())
    return AdvantageOutputs([[value.repeat(longest) for value in row] for row in centred(inputs.rewards)])


@breaks("runs")
def raises(inputs: AdvantageInputs):
    raise KeyError("agent")


@breaks("rollout_order")
def against_the_first(inputs: AdvantageInputs):
    return AdvantageOutputs(inputs.rewards - inputs.rewards[:, :1])


@breaks("group_order", mixes_groups=True)
def early_examples_weigh_more(inputs: AdvantageInputs):
    weights = torch.linspace(2, 1, len(inputs.rewards)).to(inputs.rewards).unsqueeze(1)
    return AdvantageOutputs(weights * centred(inputs.rewards))


@breaks("groups_apart")
def by_the_mean_length_of_the_batch(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(inputs.rewards) * inputs.completion_lengths.to(inputs.rewards).mean())


@breaks("groups_apart")
def centres_over_the_wrong_axis(inputs: AdvantageInputs):
    return AdvantageOutputs(inputs.rewards - inputs.rewards.mean(dim=0, keepdim=True))


@breaks("equal_rewards")
def divides_by_a_deviation_and_takes_one_rollout(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(inputs.rewards) / inputs.rewards.std(dim=1, keepdim=True))


@breaks("equal_rewards")
def raw_rewards(inputs: AdvantageInputs):
    return AdvantageOutputs(inputs.rewards)


@breaks("equal_rewards", min_rollouts_per_example=2)
def divides_by_a_deviation_of_0(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(inputs.rewards) / inputs.rewards.std(dim=1, keepdim=True))


@breaks("rounded_rewards", min_rollouts_per_example=2)
def normalizes_what_rounding_left(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(inputs.rewards) / (inputs.rewards.std(dim=1, keepdim=True) + 1e-6))


@breaks("reward_order")
def has_the_sign_the_wrong_way_round(inputs: AdvantageInputs):
    return AdvantageOutputs(-centred(inputs.rewards))


@breaks("reward_order", mixes_groups=True, min_rollouts_per_example=2)
def normalizes_the_wrong_way_round(inputs: AdvantageInputs):
    rewards = inputs.rewards.double()
    return AdvantageOutputs(-centred(rewards) / (rewards.std() + 1e-4))


@breaks("reward_order")
def prefers_what_is_unusual(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(centred(inputs.rewards.double()).abs()))


@breaks("rounded_rewards", min_rollouts_per_example=2)
def normalizes_with_a_tiny_epsilon(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(inputs.rewards) / (inputs.rewards.std(dim=1, keepdim=True) + 1e-8))


@breaks("runs")
def reads_a_column(inputs: AdvantageInputs):
    weights = [[rollout["example"]["difficulty"] for rollout in group] for group in inputs.rollouts]
    return AdvantageOutputs(centred(inputs.rewards) * inputs.rewards.new_tensor(weights))


@breaks("runs")
def reads_what_it_did_not_ask_for(inputs: AdvantageInputs):
    return AdvantageOutputs(inputs.rewards - inputs.greedy_rewards.unsqueeze(1))


@breaks("nan_reward")
def hides_nan(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(inputs.rewards.nan_to_num()))


@breaks("lengths")
def by_the_gaps_between_tokens(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(inputs.rewards) / (inputs.completion_lengths - 1))


@breaks("fewest_rollouts", min_rollouts_per_example=1)
def no_deviation_of_one(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(inputs.rewards) / (inputs.rewards.std(dim=1, keepdim=True) + 1))


@breaks("single_precision")
def double_only(inputs: AdvantageInputs):
    size = inputs.rewards.shape[1]
    return AdvantageOutputs(inputs.rewards @ (torch.eye(size, dtype=torch.double) - 1 / size))


@breaks("precision", min_rollouts_per_example=2)
def normalizes_in_float32(inputs: AdvantageInputs):
    rewards = inputs.rewards.float()
    return AdvantageOutputs(centred(rewards) / (rewards.std(dim=1, keepdim=True, correction=0) + 1e-4))


@breaks("precision")
def reads_rewards_into_float32(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(torch.tensor([[rollout["reward"] for rollout in group] for group in inputs.rollouts])))


@breaks("needs", needs={"greedy_rewards"})
def asks_for_nothing_it_reads(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(inputs.rewards))


@breaks("needs", needs={"greedy_rewards", "ref_logprobs"})
def reads_one_of_two_needs(inputs: AdvantageInputs):
    return AdvantageOutputs(inputs.rewards - inputs.greedy_rewards.unsqueeze(1))


@breaks("inputs_unchanged")
def subtracts_in_place(inputs: AdvantageInputs):
    rewards = inputs.rewards
    rewards -= rewards.mean(dim=1, keepdim=True)
    return AdvantageOutputs(rewards.clone())


@breaks("inputs_unchanged")
def writes_into_rollouts(inputs: AdvantageInputs):
    for group in inputs.rollouts:
        group[0]["metrics"]["best"] = 1.0
    return AdvantageOutputs(centred(inputs.rewards))


@breaks("deterministic")
def rolls_dice(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(inputs.rewards) * torch.rand(()).to(inputs.rewards))


@breaks("deterministic")
def adds_noise_to_rewards(inputs: AdvantageInputs):
    return AdvantageOutputs(centred(inputs.rewards + 0.001 * torch.randn_like(inputs.rewards)))


@breaks("state")
class Cools:
    """Weighs less with every batch, and tells nobody."""

    def __init__(self):
        self.weight = 1.0

    def __call__(self, inputs: AdvantageInputs):
        self.weight *= 0.9
        return AdvantageOutputs(self.weight * centred(inputs.rewards))


@breaks("resumes")
class ForgetsItsState(Cools):
    """Declares state, and saves none of it."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@breaks("options_from_toml")
def takes_a_function(inputs: AdvantageInputs, transform: object = torch.tanh):
    return AdvantageOutputs(centred(transform(inputs.rewards)))
