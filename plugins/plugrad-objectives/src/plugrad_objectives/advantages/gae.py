"""GAE: an exponentially weighted sum of what a critic was surprised by (arXiv:1506.02438, eq. 16)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from plugrad import AdvantageInputs, AdvantageOutputs, advantage, equal_rewards

Share = Annotated[float, Field(ge=0, le=1)]


@advantage(needs={"values"}, mixes_groups=True, signal_from_equal_rewards=True)
def gae(inputs: AdvantageInputs, gamma: Share = 1.0, lam: Share = 0.95, whiten: bool = True) -> AdvantageOutputs:
    """A_t = delta_t + gamma lam A_{t+1},  delta_t = r_t + gamma V_{t+1} - V_t;  the critic's target is A_t + V_t.

    A reply's own reward comes with its last token, and the rest with the last token of all. After it, V is 0, because the
    episode is over; where the completion was cut off at `max_new_tokens`, V of the state after the last token stands for
    what would have followed. An empty completion has nothing.

    Targets are computed before whitening. The mean and the variance are those of all tokens of the batch of rollouts, on
    all ranks, so that neither the cut nor the number of ranks matters. Tokens that are all surprised alike have an
    advantage of 0.

    Args:
        gamma: the discount of a token; 1 in arXiv:1909.08593, verl, SkyRL and TRL.
        lam: how far a surprise is carried back; PPO's 0.95 (arXiv:1707.06347), which TRL keeps. verl and SkyRL use 1.
        whiten: subtract the mean of the advantages and divide by their standard deviation, as TRL, verl and SkyRL do.
    """
    assert inputs.values is not None
    surprises = [
        [_backwards(values.double(), earned, cut, gamma, lam) for values, earned, cut in zip(*group, strict=True)]
        for group in zip(inputs.values, inputs.token_rewards, _truncated(inputs), strict=True)
    ]
    returns = [[a + v[:-1] for a, v in zip(*group, strict=True)] for group in zip(surprises, inputs.values, strict=True)]
    return AdvantageOutputs(_whitened(surprises) if whiten else surprises, returns=returns)


def _truncated(inputs: AdvantageInputs) -> list[list[bool]]:
    if not inputs.rollouts:
        return [[False] * inputs.rewards.shape[1] for _ in inputs.rewards]
    return [[rollout["truncated"] for rollout in group] for group in inputs.rollouts]


def _backwards(values: Tensor, rewards: Tensor, truncated: bool, gamma: float, lam: float) -> Tensor:
    following, carried = float(values[-1]) if truncated else 0.0, 0.0
    found: list[float] = []
    for value, earned in zip(reversed(values[:-1].tolist()), reversed(rewards.tolist()), strict=True):
        carried = earned + gamma * following - value + gamma * lam * carried
        following = value
        found.append(carried)
    return values.new_tensor(found[::-1])


def _whitened(surprises: list[list[Tensor]]) -> list[list[Tensor]]:
    tokens = torch.cat([rollout for group in surprises for rollout in group])
    if not len(tokens) or bool(equal_rewards(tokens.unsqueeze(0))):
        return [[torch.zeros_like(rollout) for rollout in group] for group in surprises]
    mean, deviation = tokens.mean(), tokens.std(correction=0)
    return [[(rollout - mean) / deviation for rollout in group] for group in surprises]
