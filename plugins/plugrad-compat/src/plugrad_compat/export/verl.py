"""Any plugrad loss as a verl policy loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from plugrad import BatchLossInputs
from plugrad_compat.export.named import named_loss, weighted
from plugrad_compat.verl.functions import agg_loss

GIVES = frozenset({"old_logprobs"})


@dataclass(frozen=True)
class VerlPolicyLoss:
    """`(old_log_prob, log_prob, advantages, response_mask, loss_agg_mode, config, ...) -> (loss, metrics)`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self,
        old_log_prob: Tensor,
        log_prob: Tensor,
        advantages: Tensor,
        response_mask: Tensor,
        loss_agg_mode: str = "token-mean",
        config: Any = None,
        rollout_is_weights: Tensor | None = None,
        rollout_log_probs: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a micro-batch, aggregated as verl does, and metrics."""
        inference = old_log_prob if rollout_log_probs is None else rollout_log_probs
        mask = response_mask.bool()
        inputs = BatchLossInputs(
            trainer_logprobs=log_prob,
            inference_logprobs=inference,
            advantages=advantages,
            loss_mask=mask,
            old_logprobs=old_log_prob,
        )
        rows = named_loss(self.name, self.options, "verl", GIVES).rows(inputs)
        sums = rows.sums
        if rollout_is_weights is not None:
            sums = weighted(rows, rollout_is_weights, self.name, "verl's rollout_is_weights")
        info = getattr(config, "global_batch_info", None) or {}
        # Each counted token carries its share of the row, so verl's sum over tokens is the row's sum.
        spread = (sums / mask.sum(dim=1).clamp(min=1)).unsqueeze(1) * mask
        loss = agg_loss(loss_mat=spread, loss_mask=mask.to(sums), loss_agg_mode=loss_agg_mode, **info)
        return loss, {f"actor/{key}": value for key, value in rows.metrics.items()}


def verl_policy_loss(name: str, **options: Any) -> VerlPolicyLoss:
    """Return a plugrad loss to register: `register_policy_loss("plugrad_gspo")(verl_policy_loss("gspo"))`.

    Args:
        name: the plugrad loss.
        options: the options of the loss.
    """
    return VerlPolicyLoss(name, options)
