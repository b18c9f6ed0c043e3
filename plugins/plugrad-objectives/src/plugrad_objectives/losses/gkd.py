"""GKD: distillation on the policy's own completions, between forward and reverse KL (arXiv:2306.13649, eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, TeacherDivergence, loss


def _needs(options: Mapping[str, Any]) -> set[TeacherDivergence]:
    beta, temperature = options["beta"], options["temperature"]
    if beta in (0, 1):
        return {TeacherDivergence("forward" if beta == 0 else "reverse", temperature=temperature)}
    return {TeacherDivergence("jsd", temperature=temperature, beta=beta)}


@loss(needs=_needs, policy_gradient=False)
def gkd(
    inputs: BatchLossInputs,
    beta: Annotated[float, Field(ge=0, le=1)] = 0.5,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
) -> LossOutputs:
    """beta KL(p_T || m) + (1 - beta) KL(p_S || m),  m = beta p_T + (1 - beta) p_S.

    Divided by beta it tends to KL(p_T || p_S) where beta tends to 0, and divided by 1 - beta to KL(p_S || p_T) where it
    tends to 1. So `beta = 0` is the forward KL and `beta = 1` the reverse, as in the paper and TRL.

    The paper's lambda, the share of a batch that the policy sampled itself, is the engine here: `transformers` or another
    that samples for 1, `dataset` for 0. Nothing flows back through the sampling. GKD with reinforcement learning (eq. 5) is
    two tables `[[loss]]`.

    Args:
        beta: the paper tries 0.1, 0.5 and 0.9; TRL's default is 0.5.
        temperature: of both models. 1 in the paper; TRL has 0.9, the temperature that it samples with.

    Reports:
        divergence: the mean over counted tokens, in nats.
    """
    assert inputs.teacher_divergence is not None
    divergence = inputs.teacher_divergence
    return LossOutputs(divergence, {"divergence": Mean.over(divergence, inputs.loss_mask)})
