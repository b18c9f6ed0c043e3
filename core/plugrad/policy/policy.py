"""The policy as a module from token ids to log-probs, so that wrappers for several ranks see its whole forward pass."""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from plugrad.policy.logprobs import EntropyMode, scores_from_logits, token_scores

logger = logging.getLogger("plugrad")


class Policy(nn.Module):
    """A causal LM that scores the counted tokens of a micro-batch at the temperature that samples them."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.has_plain_head = _has_plain_head(model)
        if not self.has_plain_head:
            logger.info("%s does more than one matrix product to its last hidden state: using its own logits.", _name(model))

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"],
        counted: Bool[Tensor, "batch seq"],
        entropy: EntropyMode = "none",
    ) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, "batch seq"] | None]:
        """Return log-prob and entropy of each counted token given those before it; zero where nothing counts.

        The head runs only where `counted` is True. The first token of a row has nothing before it and never counts.
        """
        predicted = counted[:, 1:]
        targets = input_ids[:, 1:][predicted]
        mask = attention_mask.long()
        if self.has_plain_head:
            hidden = _backbone(self.model)(input_ids=input_ids, attention_mask=mask, use_cache=False)[0]
            head = cast(nn.Linear, self.model.get_output_embeddings())  # type: ignore[operator]
            logprobs, entropies = token_scores(
                hidden[:, :-1][predicted], head.weight, head.bias, targets, temperature=self.temperature, entropy=entropy
            )
        else:
            logits = self.model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
            logprobs, entropies = scores_from_logits(
                logits[:, :-1][predicted], targets, temperature=self.temperature, entropy=entropy
            )
        return _scatter(logprobs, counted), None if entropies is None else _scatter(entropies, counted)


def _scatter(values: Tensor, counted: Tensor) -> Tensor:
    places = counted.clone()
    places[:, 0] = False
    return torch.zeros(counted.shape, dtype=values.dtype, device=values.device).masked_scatter(places, values)


def _backbone(model: nn.Module) -> nn.Module:
    return cast(nn.Module, model.base_model)


def _name(model: nn.Module) -> str:
    return type(model).__name__


@torch.no_grad()
def _has_plain_head(model: nn.Module) -> bool:
    """Whether the logits are exactly the head's product with the last hidden state.

    Tried and not looked up: soft-capping, scaling and whatever the next model brings would be silently wrong otherwise.
    """
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(head, nn.Linear) or _backbone(model) is model:
        return False
    was_training = model.training
    model.eval()
    ids = torch.arange(4, device=head.weight.device).unsqueeze(0) % head.weight.shape[0]
    mask = torch.ones_like(ids)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    hidden = _backbone(model)(input_ids=ids, attention_mask=mask, use_cache=False)[0]
    model.train(was_training)
    return hidden.shape[-1] == head.weight.shape[1] and torch.allclose(head(hidden), logits, rtol=1e-3, atol=1e-4)
