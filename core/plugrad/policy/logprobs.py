"""Log-probs and entropy of sampled tokens, from hidden states and the head's weight."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

EntropyMode = Literal["none", "value", "gradient"]


def token_scores(
    hidden: Float[Tensor, "tokens hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, "vocab"] | None,
    targets: Int[Tensor, "tokens"],
    *,
    temperature: float,
    entropy: EntropyMode,
) -> tuple[Float[Tensor, "tokens"], Float[Tensor, "tokens"] | None]:
    """Return log softmax(logits / temperature) at the targets and the entropy of that softmax, in nats.

    The logits are hidden @ weight.T + bias. Sums over the vocabulary are in float32 at least.
    """
    return scores_from_logits(linear(hidden, weight, bias), targets, temperature=temperature, entropy=entropy)


def scores_from_logits(
    logits: Float[Tensor, "tokens vocab"],
    targets: Int[Tensor, "tokens"],
    *,
    temperature: float,
    entropy: EntropyMode,
) -> tuple[Float[Tensor, "tokens"], Float[Tensor, "tokens"] | None]:
    """The same from logits, for models that do more than one matrix product after the last hidden state."""
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    normalizer = scaled.logsumexp(dim=-1)
    logprobs = scaled.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - normalizer
    if entropy == "none":
        return logprobs, None
    with torch.set_grad_enabled(entropy == "gradient" and torch.is_grad_enabled()):
        probabilities = (scaled - normalizer.unsqueeze(-1)).exp()
        # A token that is impossible contributes 0, not 0 * -inf.
        weighted = torch.where(probabilities > 0, probabilities * scaled, 0.0)
        return logprobs, normalizer - weighted.sum(dim=-1)
