"""Log-probs and entropy of sampled tokens, from hidden states and the head's weight."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plugrad.policy.blocks import EntropyMode, Plan, product_dtype_of
from plugrad.policy.fused_logprobs import TokenScores
from plugrad.policy.score_kernels import score_kernels

__all__ = ["EntropyMode", "logits_of", "scores_from_logits", "token_scores"]


def token_scores(
    hidden: Float[Tensor, "tokens hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, "vocab"] | None,
    targets: Int[Tensor, "tokens"],
    *,
    temperature: float,
    entropy: EntropyMode,
    scaling: float = 1.0,
    softcap: float | None = None,
) -> tuple[Float[Tensor, "tokens"], Float[Tensor, "tokens"] | None]:
    """Return log softmax(logits / temperature) at the targets and the entropy of that softmax, in nats.

    The logits are x = scaling * (hidden @ weight.T + bias), or softcap * tanh(x / softcap). They are computed in blocks:
    full-vocabulary logits are never materialised, in either pass. Sums and results are in float32 at least. Matrix products
    use the dtype of `hidden`, or autocast's.
    """
    alone = hidden.requires_grad and not weight.requires_grad and not (bias is not None and bias.requires_grad)
    product_dtype = product_dtype_of(hidden)
    plan = Plan(
        slope=scaling / temperature,
        bound=None if softcap is None else softcap / temperature,
        entropy=entropy,
        product_dtype=product_dtype,
        gradient_in_forward=alone and torch.is_grad_enabled(),
        kernels=score_kernels(hidden.device, product_dtype),
    )
    scores: tuple[Tensor, Tensor | None] = TokenScores.apply(hidden, weight, bias, targets, plan)  # type: ignore[no-untyped-call]
    return scores


def scores_from_logits(
    logits: Float[Tensor, "tokens vocab"],
    targets: Int[Tensor, "tokens"],
    *,
    temperature: float,
    entropy: EntropyMode,
) -> tuple[Float[Tensor, "tokens"], Float[Tensor, "tokens"] | None]:
    """Return the same as `token_scores` from full logits, for models whose head it does not support."""
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    normalizer = scaled.logsumexp(dim=-1)
    logprobs = scaled.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - normalizer
    if entropy == "none":
        return logprobs, None
    with torch.set_grad_enabled(entropy == "gradient" and torch.is_grad_enabled()):
        probabilities = (scaled - normalizer.unsqueeze(-1)).exp()
        # An impossible token contributes 0, not 0 * -inf, also to the gradient.
        possible = scaled.masked_fill(scaled.isneginf(), 0.0)
        return logprobs, normalizer - (probabilities * possible).sum(dim=-1)


def logits_of(
    hidden: Float[Tensor, "tokens hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, "vocab"] | None,
    *,
    temperature: float,
    scaling: float = 1.0,
    softcap: float | None = None,
) -> Float[Tensor, "tokens vocab"]:
    """Return the logits of `token_scores`, divided by the temperature, in float32 at least."""
    product = torch.nn.functional.linear(hidden, weight, bias)
    scaled = scaling * product.to(torch.promote_types(product.dtype, torch.float32))
    return (scaled if softcap is None else softcap * torch.tanh(scaled / softcap)) / temperature
