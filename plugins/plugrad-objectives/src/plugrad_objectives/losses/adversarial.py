"""Adversarial training on embeddings: learn at the worst place nearby too (arXiv:1605.07725, section 3)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch.nn.functional import normalize

from plugrad import BatchLossInputs, LossOutputs, Mean, loss


@loss(needs={"again"}, passes=2, policy_gradient=False)
def adversarial(
    inputs: BatchLossInputs,
    eps: Annotated[float, Field(gt=0)] = 0.01,
    alpha: Annotated[float, Field(ge=0)] = 1.0,
    kind: Literal["l2", "sign"] = "l2",
) -> LossOutputs:
    """l + alpha l(e + eps g / |g|),  l = -log pi at each token, g the slope of a row's l by the embedding e of a token.

    Each token's embedding, those of the prompt included, moves by eps against the completion. With `sign`, each of its
    entries does: eps sign(g), the fast gradient sign method (arXiv:1412.6572, section 4). No gradient goes through g.

    arXiv:1605.07725 has one norm for all tokens of a text; here each token has its own, else long texts would hardly move.
    NeMo RL's guide calls `backward()` inside the loss, which adds the attack's gradient to the update's.

    Args:
        eps: the length of the step. Choose it by the size of the embeddings, which differs from model to model.
        alpha: the weight of the loss under attack; 1 in arXiv:1605.07725.
        kind: what is bounded, the length of the step or each of its entries.

    Reports:
        nll: the mean of l over counted tokens, in nats.
        nll_under_attack: the same at the moved embeddings.
    """
    assert inputs.sensitivity is not None
    assert inputs.again is not None
    nll = -inputs.trainer_logprobs
    slope = inputs.sensitivity((nll * inputs.loss_mask).sum())
    direction = slope.sign() if kind == "sign" else normalize(slope, dim=-1)
    attacked = -inputs.again(eps * direction).trainer_logprobs
    metrics = {
        "nll": Mean.over(nll, inputs.loss_mask),
        "nll_under_attack": Mean.over(attacked, inputs.loss_mask),
    }
    return LossOutputs(nll + alpha * attacked, metrics)
