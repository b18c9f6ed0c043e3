"""The policy as a module from token ids to log-probs, so that DDP and FSDP wrap its whole forward pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from plugrad.policy.lm_head import backbone, find_head
from plugrad.policy.logprobs import EntropyMode, logits_of, scores_from_logits, token_scores
from plugrad.policy.packing import can_pack, packed_inputs


class ScoresAndLogits(NamedTuple):
    """The policy's scores of each counted token, and the logits of all tokens in its place."""

    logprobs: Float[Tensor, "batch seq"]
    entropy: Float[Tensor, "batch seq"] | None
    logits: Float[Tensor, "batch seq vocab"]


class Policy(nn.Module):
    """A causal LM that scores the counted tokens of a micro-batch at the temperature that samples them."""

    def __init__(self, model: nn.Module, temperature: float, packs: bool | None = None) -> None:
        """Find out how the model computes logits and, unless `packs` is given, whether it can pack sequences.

        Raises:
            ModelError: the model is not a causal LM.
        """
        super().__init__()
        self.model = model
        self.temperature = temperature
        self.head = find_head(model)
        self.packs = can_pack(model) if packs is None else packs

    @property
    def _no_split_modules(self) -> Any:
        # Accelerate's FSDP wraps the layers that the root module names, and the policy is the root.
        return getattr(self.model, "_no_split_modules", None)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"],
        counted: Bool[Tensor, "batch seq"],
        entropy: EntropyMode = "none",
        *,
        logits: bool = False,
    ) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, "batch seq"] | None] | ScoresAndLogits:
        """Return log-prob and entropy of each counted token given the tokens before it, and zero elsewhere.

        The head runs only where `counted` is True. The first token of a row has no context and never counts. With `logits`,
        also return the logits of that softmax, which then exist for the whole micro-batch.
        """
        predicts = nn.functional.pad(counted[:, 1:], (0, 1))
        targets = input_ids[:, 1:][counted[:, 1:]]
        if self.packs:
            inputs, chosen = packed_inputs(input_ids, attention_mask), predicts[attention_mask].unsqueeze(0)
        else:
            chosen = predicts
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask.long(), "use_cache": False}
        if logits or self.head is None:
            found = self._logits(inputs, chosen)
            logprobs, entropies = scores_from_logits(found, targets, temperature=1.0, entropy=entropy)
        else:
            logprobs, entropies = self._scores(backbone(self.model)(**inputs)[0][chosen], targets, entropy)
        scattered = _scatter(logprobs, counted), None if entropies is None else _scatter(entropies, counted)
        return ScoresAndLogits(*scattered, _scatter(found, counted)) if logits else scattered

    def _logits(self, inputs: dict[str, Any], chosen: Bool[Tensor, "batch seq"]) -> Float[Tensor, "tokens vocab"]:
        """Return the logits at the chosen positions, divided by the temperature, in float32 at least."""
        if self.head is None:
            found = self.model(**inputs).logits[chosen]
            return found.to(torch.promote_types(found.dtype, torch.float32)) / self.temperature  # type: ignore[no-any-return]
        head, hidden = self._head_and_hidden(backbone(self.model)(**inputs)[0][chosen])
        return logits_of(
            hidden,
            head.weight,
            getattr(head, "bias", None),
            temperature=self.temperature,
            scaling=self.head.scaling,
            softcap=self.head.softcap,
        )

    def _head_and_hidden(self, hidden: Float[Tensor, "tokens hidden"]) -> tuple[Any, Float[Tensor, "tokens hidden"]]:
        """Return the head and its input."""
        assert self.head is not None
        head: Any = self.model.get_output_embeddings()  # type: ignore[operator]
        # The head may be more precise than the layers below it.
        hidden = hidden.to(head.weight.dtype)
        return head, hidden if self.head.hidden_scaling == 1 else hidden * self.head.hidden_scaling

    def _scores(
        self, hidden: Float[Tensor, "tokens hidden"], targets: Int[Tensor, "tokens"], entropy: EntropyMode
    ) -> tuple[Float[Tensor, "tokens"], Float[Tensor, "tokens"] | None]:
        assert self.head is not None
        head, hidden = self._head_and_hidden(hidden)
        return token_scores(
            hidden,
            head.weight,
            getattr(head, "bias", None),
            targets,
            temperature=self.temperature,
            entropy=entropy,
            scaling=self.head.scaling,
            softcap=self.head.softcap,
        )


def _scatter(values: Tensor, counted: Tensor) -> Tensor:
    places = counted.clone()
    places[:, 0] = False
    if values.ndim == 1:
        return torch.zeros(counted.shape, dtype=values.dtype, device=values.device).masked_scatter(places, values)
    return values.new_zeros(*counted.shape, values.shape[1]).masked_scatter(places.unsqueeze(2), values)
