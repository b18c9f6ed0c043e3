"""SimPO: preferences by the mean log-prob of a completion, without a reference model (arXiv:2405.14734, eq. 6)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch.nn.functional import logsigmoid

from plugrad import BatchLossInputs, LossOutputs
from plugrad_objectives.losses.pairs import By, Pairs, of_pairs, sequence_means


@of_pairs()
def simpo(
    inputs: BatchLossInputs,
    beta: Annotated[float, Field(gt=0)] = 2.0,
    gamma: Annotated[float, Field(ge=0)] = 0.5,
    by: By = "member",
) -> LossOutputs:
    """-log sigmoid(beta (m(chosen) - m(rejected)) - gamma),  m = the mean log pi over a completion's tokens.

    The mean over pairs, whatever the number of rollouts.

    Args:
        beta: the scale of the reward; 2, where the paper's search begins. TRL's `cpo` has 0.1.
        gamma: how far the chosen one must be above the rejected; a quarter of beta, as in the authors' code. TRL uses 0.5.
        by: `member`: the first of `references` is chosen, the others are rejected. `reward`: of sampled completions, the
            one with the higher reward is chosen.

    Reports:
        accuracy: the share of pairs whose chosen one has the higher mean log-prob.
        margin: the mean of beta (m(chosen) - m(rejected)) over pairs.
        chosen_reward: the mean of beta m over the chosen ones.
        rejected_reward: the mean of beta m over the rejected ones.
    """
    pairs = Pairs.of(inputs, by)
    rewards = beta * sequence_means(inputs.trainer_logprobs, inputs)
    losses = -logsigmoid(pairs.differences(rewards) - gamma)
    return LossOutputs(pairs.per_row(losses), pairs.measures(rewards))
