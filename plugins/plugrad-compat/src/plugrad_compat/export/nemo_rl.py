"""Any plugrad loss as a NeMo RL LossFunction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from plugrad import BatchLossInputs, PluginError
from plugrad_compat.export.named import named_loss
from plugrad_compat.nemo_rl import interfaces

GIVES = frozenset({"old_logprobs", "ref_logprobs", "entropy", "logits", "input_ids", "reward"})
OF_LOGITS = frozenset({"logits", "entropy"})
LEVELS = {"token": "TOKEN_LEVEL", "sequence": "SEQUENCE_LEVEL", "sequence_sum": "SEQUENCE_LEVEL"}
"""The `loss_type` for each reduction."""
MODULES = ("nemo_rl.algorithms.loss.interfaces", "nemo_rl.algorithms.interfaces")
"""The modules of the enumerations in later and earlier versions."""


class NemoRlLossFunction:
    """`(next_token_logits, data, global_valid_seqs, global_valid_toks) -> (loss, metrics)`, for any plugrad loss.

    Later versions pass `next_token_logprobs` or `logits` by name. `input_type` requests logits if the loss needs more
    than log-probs.
    """

    def __init__(self, name: str, options: Mapping[str, Any], reduction: str | None = None) -> None:
        self._loss = named_loss(name, options, "NeMo RL", GIVES)
        self._reduction = reduction or self._loss.loss.reduction
        if self._reduction not in LEVELS:
            raise PluginError(
                f"the loss {name!r} has the reduction {self._reduction!r}, but NeMo RL divides by tokens or by sequences. "
                f"Pass reduction=, one of {', '.join(LEVELS)}."
            )
        self.loss_type = getattr(_enumeration("LossType"), LEVELS[self._reduction])
        """A member of NeMo RL's own enumeration if NeMo RL is installed."""
        needs_logits = self._loss.loss.needs & OF_LOGITS
        self.input_type = getattr(_enumeration("LossInputType"), "LOGIT" if needs_logits else "LOGPROB")
        """A member of the enumeration of input types, in versions that have it."""

    def __call__(
        self,
        next_token_logits: Tensor | None = None,
        data: Mapping[str, Any] | None = None,
        global_valid_seqs: Tensor | None = None,
        global_valid_toks: Tensor | None = None,
        next_token_logprobs: Tensor | None = None,
        logits: Tensor | None = None,
        **unused: Any,
    ) -> tuple[Tensor, dict[str, float]]:
        """Return this micro-batch's part of the loss of the whole batch, and metrics as Python numbers."""
        # All have defaults, since the first argument differs between versions.
        assert data is not None
        assert global_valid_seqs is not None
        assert global_valid_toks is not None
        given = logits if next_token_logits is None else next_token_logits
        scored = _of_logprobs(next_token_logprobs) if given is None else _of_logits(given, data["input_ids"])
        inputs = _inputs(scored, data, self._loss.loss.needs)
        rows = self._loss.rows(inputs)
        lengths = inputs.loss_mask.sum(dim=1)
        if self._reduction == "token":
            loss = rows.sums.sum() / global_valid_toks
        else:
            sums = rows.sums / lengths.clamp(min=1) if self._reduction == "sequence" else rows.sums
            loss = sums.sum() / global_valid_seqs
        # NeMo RL sums the metrics of micro-batches, so each returns its share of a mean.
        share = float(lengths.sum() / global_valid_toks)
        shares = {name: value * share for name, value in rows.metrics.items()}
        return loss, {"loss": loss.item(), "num_valid_samples": float(inputs.loss_mask.any(dim=1).sum()), **shares}


def nemo_rl_loss(name: str, *, reduction: str | None = None, **options: Any) -> NemoRlLossFunction:
    """Return a plugrad loss as a LossFunction.

    Args:
        name: the plugrad loss.
        reduction: "token", "sequence" or "sequence_sum"; by default the loss's own.
        options: the options of the loss.

    Raises:
        PluginError: the loss is not installed, or NeMo RL lacks one of its needs or its reduction.
    """
    return NemoRlLossFunction(name, options, reduction)


@dataclass(frozen=True)
class _Scored:
    """The policy's scores at each token's own position. NeMo RL's are one position to the left."""

    own: Tensor
    log_softmax: Tensor | None = None
    logits: Tensor | None = None

    def entropy(self) -> Tensor:
        assert self.log_softmax is not None
        return -(self.log_softmax.exp() * self.log_softmax).sum(dim=2)


def _of_logits(next_token_logits: Tensor, input_ids: Tensor) -> _Scored:
    logits = next_token_logits.to(torch.promote_types(next_token_logits.dtype, torch.float32))
    logits = torch.cat([torch.zeros_like(logits[:, :1]), logits[:, :-1]], dim=1)
    log_softmax = logits.log_softmax(dim=2)
    return _Scored(log_softmax.gather(2, input_ids.unsqueeze(2)).squeeze(2), log_softmax, logits)


def _of_logprobs(next_token_logprobs: Tensor | None) -> _Scored:
    assert next_token_logprobs is not None
    next_token_logprobs = next_token_logprobs.to(torch.promote_types(next_token_logprobs.dtype, torch.float32))
    return _Scored(torch.cat([torch.zeros_like(next_token_logprobs[:, :1]), next_token_logprobs], dim=1))


def _inputs(scored: _Scored, data: Mapping[str, Any], needs: frozenset[str]) -> BatchLossInputs:
    own = scored.own
    mask = (data["token_mask"] * data["sample_mask"].unsqueeze(-1)).bool()
    # The first token has no context to be predicted from.
    mask = torch.cat([torch.zeros_like(mask[:, :1]), mask[:, 1:]], dim=1)
    optional: dict[str, Callable[[], Any]] = {
        "old_logprobs": lambda: _masked(data["prev_logprobs"], mask, own),
        "ref_logprobs": lambda: _masked(data["reference_policy_logprobs"], mask, own),
        "entropy": lambda: scored.entropy() * mask,
        "logits": lambda: scored.logits,
        "input_ids": lambda: data["input_ids"],
        "reward": lambda: data["rewards"].to(own),
    }
    inference = data["generation_logprobs"] if "generation_logprobs" in data else data["prev_logprobs"]
    return BatchLossInputs(
        trainer_logprobs=torch.where(mask, own, 0.0),
        inference_logprobs=_masked(inference, mask, own),
        advantages=_masked(data["advantages"], mask, own),
        loss_mask=mask,
        **{name: optional[name]() for name in sorted(needs)},
    )


def _masked(values: Tensor, mask: Tensor, like: Tensor) -> Tensor:
    return torch.where(mask, values.to(like), 0.0)


def _enumeration(name: str) -> Any:
    """Return an enumeration of the installed NeMo RL, or this package's own."""
    for module in MODULES:
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return getattr(interfaces, name)
