"""The policy as a module from token ids to log-probs, so that DDP and FSDP wrap its whole forward pass."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from plugrad.policy.experts import run_experts_in_float64
from plugrad.policy.lm_head import backbone, find_head
from plugrad.policy.logprobs import EntropyMode, logits_of, scores_from_logits, token_scores
from plugrad.policy.neighbours import keeps_rows_apart
from plugrad.policy.packing import can_pack, packed_inputs
from plugrad.policy.routers import expert_counts
from plugrad.policy.training_mode import keep_evaluating, noisy_modules

logger = logging.getLogger("plugrad")


class ScoresAndLogits(NamedTuple):
    """The policy's scores of each counted token, and the logits of all tokens in its place."""

    logprobs: Float[Tensor, "batch seq"]
    entropy: Float[Tensor, "batch seq"] | None
    logits: Float[Tensor, "batch seq vocab"]


class Scored(NamedTuple):
    """What one pass through the model scored."""

    logprobs: Float[Tensor, "batch seq"]
    entropy: Float[Tensor, "batch seq"] | None
    logits: Float[Tensor, "batch seq vocab"] | None


class Rows(NamedTuple):
    """What one pass through the model reads."""

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Bool[Tensor, "batch seq"]
    counted: Bool[Tensor, "batch seq"]

    def one_by_one(self) -> list[Rows]:
        """Return each row alone, without its padding."""
        lengths = self.attention_mask.sum(dim=1).tolist()
        return [Rows(*(column[row : row + 1, :length] for column in self)) for row, length in enumerate(lengths)]


class Policy(nn.Module):
    """A causal LM that scores the counted tokens of a micro-batch at the temperature that samples them."""

    def __init__(self, model: nn.Module, temperature: float, packs: bool | None = None) -> None:
        """Find out by trial runs how the model computes, and unless `packs` is given, whether it can pack sequences.

        Raises:
            ModelError: the model is not a causal LM.
        """
        super().__init__()
        self.model = model
        self.temperature = temperature
        run_experts_in_float64(model)
        self.head = find_head(model)
        self.rows_alone = not keeps_rows_apart(model)
        self.packs = not self.rows_alone and (can_pack(model) if packs is None else packs)
        config: Any = getattr(model, "config", None)
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        self.top_k = int(getattr(text, "num_experts_per_tok", None) or 0)
        self.counts_experts = bool(getattr(text, "output_router_logits", False) and self.top_k)
        self.expert_counts: Tensor | None = None
        trains = any(parameter.requires_grad for parameter in model.parameters())
        noisy = noisy_modules(model) if trains else {}
        self.noisy = frozenset(noisy)
        _say_what_is_noisy(noisy)
        keep_evaluating(model, self.noisy)

    def train(self, mode: bool = True) -> Policy:
        """Set the training mode, but keep evaluating what is noisy in it: the policy in training is the one that sampled."""
        super().train(mode)
        keep_evaluating(self.model, self.noisy)
        return self

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
        batch = Rows(input_ids, attention_mask, counted)
        parts = batch.one_by_one() if self.rows_alone else [batch]
        scored = _joined([self._of_rows(part, entropy, logits) for part in parts], input_ids.shape[1])
        if scored.logits is None:
            return scored.logprobs, scored.entropy
        return ScoresAndLogits(scored.logprobs, scored.entropy, scored.logits)

    def _of_rows(self, rows: Rows, entropy: EntropyMode, logits: bool) -> Scored:
        """Run the model once on all the rows."""
        input_ids, attention_mask, counted = rows
        # A row in which nothing counts only fills up a rank's share.
        routed = attention_mask & counted.any(dim=1, keepdim=True)
        predicts = nn.functional.pad(counted[:, 1:], (0, 1))
        targets = input_ids[:, 1:][counted[:, 1:]]
        if self.packs:
            inputs, chosen = packed_inputs(input_ids, attention_mask), predicts[attention_mask].unsqueeze(0)
            routed = routed[attention_mask]
        else:
            chosen = predicts
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask.long(), "use_cache": False}
        if logits or self.head is None:
            found = self._logits(inputs, chosen, routed)
            logprobs, entropies = scores_from_logits(found, targets, temperature=1.0, entropy=entropy)
        else:
            logprobs, entropies = self._scores(self._hidden(inputs, routed)[chosen], targets, entropy)
        return Scored(
            _scatter(logprobs, counted),
            None if entropies is None else _scatter(entropies, counted),
            _scatter(found, counted) if logits else None,
        )

    def _hidden(self, inputs: dict[str, Any], routed: Bool[Tensor, "..."]) -> Float[Tensor, "batch seq hidden"]:
        """Return the last hidden states. In a pass with gradient, add up how many tokens each expert gets."""
        outputs = backbone(self.model)(**inputs)
        routers = getattr(outputs, "router_logits", None)
        if self.counts_experts and torch.is_grad_enabled() and isinstance(routers, tuple):
            found = expert_counts(routers, routed, self.top_k)
            self.expert_counts = found if self.expert_counts is None else self.expert_counts + found
        hidden: Tensor = outputs[0]
        return hidden

    def _logits(
        self, inputs: dict[str, Any], chosen: Bool[Tensor, "batch seq"], routed: Bool[Tensor, "..."]
    ) -> Float[Tensor, "tokens vocab"]:
        """Return the logits at the chosen positions, divided by the temperature, in float32 at least."""
        if self.head is None:
            found = self.model(**inputs).logits[chosen]
            return found.to(torch.promote_types(found.dtype, torch.float32)) / self.temperature  # type: ignore[no-any-return]
        head, hidden = self._head_and_hidden(self._hidden(inputs, routed)[chosen])
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


def _joined(parts: Sequence[Scored], width: int) -> Scored:
    """Put what was scored in several passes below one another, zero beyond the end of each."""
    if len(parts) == 1 and parts[0].logprobs.shape[1] == width:
        return parts[0]

    def column(values: Sequence[Tensor | None]) -> Any:
        return None if values[0] is None else torch.cat([_widened(part, width) for part in values if part is not None])

    return Scored(*map(column, zip(*parts, strict=True)))


def _widened(values: Tensor, width: int) -> Tensor:
    missing = width - values.shape[1]
    return nn.functional.pad(values, (0, 0) * (values.ndim - 2) + (0, missing)) if missing else values


def _say_what_is_noisy(noisy: Mapping[str, nn.Module]) -> None:
    if not noisy:
        return
    names = ", ".join(sorted({type(module).__name__ for module in noisy.values()}))
    logger.info(
        "The model's %s: in training mode it draws random numbers or gives other log-probs than in evaluation mode, which "
        "samples. It stays in evaluation mode, and is trained all the same.",
        names,
    )
    if any(getattr(module, "gradient_checkpointing", False) for module in noisy.values()):
        logger.warning(
            "Gradient checkpointing saves no memory in the model's %s: it needs training mode, in which these would "
            "give other log-probs than what samples. Set the dropout in the model's configuration to 0.",
            names,
        )
