"""Discounted returns: what a token and those after it earn, without a baseline (Williams, 1992)."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from plugrad import AdvantageInputs, AdvantageOutputs, advantage


@advantage(signal_from_equal_rewards=True)
def discounted_returns(inputs: AdvantageInputs, gamma: Annotated[float, Field(ge=0, le=1)] = 1.0) -> AdvantageOutputs:
    """A_t = sum over k >= t of gamma^(k - t) r_k,  r_k what token k earned (`token_rewards`).

    A reply's own reward comes with its last token, and the rest of the rollout's with the last token of all. With gamma 1
    and without rewards of replies, every token gets the raw reward of its rollout. A positive reward raises everything:
    combine it with rewards around 0, or with the loss `topr`.

    Args:
        gamma: what a reward is worth one token earlier. 1 is the undiscounted return.
    """
    return AdvantageOutputs([[returns(earned, gamma) for earned in group] for group in inputs.token_rewards])


def returns(earned: Float[Tensor, "completion"], gamma: float) -> Float[Tensor, "completion"]:
    """Return the discounted sum of each entry and all later ones."""
    total, found = 0.0, []
    for reward in reversed(earned.tolist()):
        total = reward + gamma * total
        found.append(total)
    return torch.tensor(found[::-1], dtype=torch.double)
