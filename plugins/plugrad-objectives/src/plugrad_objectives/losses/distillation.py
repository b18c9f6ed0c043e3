"""Distillation: learn from a teacher's whole distribution at each token (arXiv:1503.02531)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, TeacherDivergence, loss

Inside = Annotated[float, Field(gt=0, lt=1)]


@loss(
    needs=lambda options: {TeacherDivergence(options["kind"], temperature=options["temperature"], beta=options["beta"])},
    policy_gradient=False,
)
def distillation(
    inputs: BatchLossInputs,
    kind: Literal["forward", "reverse", "jsd"] = "forward",
    temperature: Annotated[float, Field(gt=0)] = 1.0,
    beta: Inside = 0.5,
) -> LossOutputs:
    """temperature^2 D(p_T, p_S),  p = softmax(logits / temperature) of the teacher and of the policy.

    D is KL(p_T || p_S) for `forward`, KL(p_S || p_T) for `reverse`, and the generalised Jensen-Shannon divergence for `jsd`,
    over the whole vocabulary. The factor keeps the size of the gradient whatever the temperature (section 2). To mix it with
    the task's own loss, add a table `[[loss]]` with `cross_entropy` and choose the weights.

    NeMo RL's guide takes the logarithm of a softmax that may have rounded to 0, and divides by the sequences of a
    micro-batch where its formula has no sum over tokens; its text names the other divergence than its code computes.

    Args:
        kind: which divergence. The paper's is `forward`.
        temperature: of both models. The guide has 4; for language models 1 is usual.
        beta: the teacher's part of the mixture of `jsd`.

    Reports:
        divergence: the mean of D over counted tokens, in nats.
    """
    assert inputs.teacher_divergence is not None
    divergence = inputs.teacher_divergence
    return LossOutputs(temperature**2 * divergence, {"divergence": Mean.over(divergence, inputs.loss_mask)})
