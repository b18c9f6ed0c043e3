"""The components that `beyond_logprobs.py` trains with."""

import random
from collections.abc import Sequence

from plugrad import (
    AdvantageInputs,
    AdvantageOutputs,
    BatchLossInputs,
    LossOutputs,
    Rollout,
    TeacherDivergence,
    advantage,
    loss,
)

LENGTH = 48
"""Tokens of a completion, about."""


@advantage(needs={"values"}, signal_from_equal_rewards=True)
def reward_less_value(inputs: AdvantageInputs) -> AdvantageOutputs:
    """The reward less the value of each state; the reward is the return."""
    assert inputs.values is not None
    pairs = [list(zip(values, rewards, strict=True)) for values, rewards in zip(inputs.values, inputs.rewards, strict=True)]
    returns = [[0 * values[1:] + reward for values, reward in group] for group in pairs]
    advantages = [[reward - values[:-1] for values, reward in group] for group in pairs]
    return AdvantageOutputs(advantages, returns=returns)


@loss(needs={"values", "returns"}, policy_gradient=False)
def squared_error(inputs: BatchLossInputs) -> LossOutputs:
    """Of the values."""
    assert inputs.values is not None
    assert inputs.returns is not None
    return LossOutputs(0.5 * (inputs.values - inputs.returns).square())


@loss(policy_gradient=False)
def own_rows(inputs: BatchLossInputs) -> LossOutputs:
    """What `all_rows` computes, row by row."""
    return LossOutputs(inputs.trainer_logprobs.square())


@loss(policy_gradient=False, whole_batch=True)
def all_rows(inputs: BatchLossInputs) -> LossOutputs:
    """What `own_rows` computes, of the whole batch."""
    return LossOutputs(inputs.trainer_logprobs.square())


@loss(needs={TeacherDivergence("forward")}, policy_gradient=False)
def far_from_the_teacher(inputs: BatchLossInputs) -> LossOutputs:
    """The forward divergence."""
    assert inputs.teacher_divergence is not None
    return LossOutputs(inputs.teacher_divergence)


class Digits:
    """Long completions to replay, with random rewards."""

    def train_examples(self) -> list[dict[str, str]]:
        """Return prompts and what to replay."""
        draw = random.Random(0)
        return [{"prompt": f"{number}=", "reference": "".join(draw.choices("0123456789", k=LENGTH))} for number in range(64)]

    def eval_examples(self) -> list[dict[str, str]]:
        """Return nothing."""
        return []

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return rewards between 0 and 1."""
        return [float(sum(map(ord, rollout["completion"])) % 7) / 7 for rollout in rollouts]
