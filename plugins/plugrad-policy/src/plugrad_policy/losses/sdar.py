"""SDAR: learn from a teacher that knows more, at the tokens which it finds likelier (arXiv:2605.15155)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, at_least_float32, loss


@loss(needs={"teacher_logprobs"}, policy_gradient=False)
def sdar(inputs: BatchLossInputs, beta: Annotated[float, Field(ge=0)] = 5.0) -> LossOutputs:
    """sg(g) (log pi_teacher - log pi),  g = sigmoid(beta (log pi_teacher - log pi)).

    Add it to a policy gradient with a small weight; the run's advantages are that loss's alone. The gate g is near 1 where
    the teacher finds the token likelier than the policy does, and near 0 where it rejects it: a teacher that has read
    skills or the answer rejects much of what the policy could not know. The paper's teacher is the policy itself with a
    longer prompt: `[model.teacher]` and the column `teacher_prompt`. The formula is that of the authors' code and of
    ms-swift.

    Args:
        beta: how sharp the gate is; the value of both. 0 weighs all tokens alike, by 1/2.

    Reports:
        gap: the mean of log pi_teacher - log pi over counted tokens, in nats.
        gate: the mean of g over counted tokens.
        is_open: the share of counted tokens with g above 1/2.
    """
    assert inputs.teacher_logprobs is not None
    gap, counted = inputs.teacher_logprobs - at_least_float32(inputs.trainer_logprobs), inputs.loss_mask
    gate = (beta * gap.detach()).sigmoid()
    metrics = {
        "gap": Mean.over(gap, counted),
        "gate": Mean.over(gate, counted),
        "is_open": Mean.over(gate > 0.5, counted),
    }
    return LossOutputs(gate * gap, metrics)
