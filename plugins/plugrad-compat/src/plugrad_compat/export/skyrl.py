"""Any plugrad loss as a policy loss of SkyRL's."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from plugrad import BatchLossInputs, PluginError
from plugrad_compat.export.named import named_loss

GIVES = frozenset({"old_logprobs"})
Returns = Literal["mean", "sum"]
MODULES = ("skyrl.backends.skyrl_train.utils.ppo_utils", "skyrl_train.utils.ppo_utils")
DIVIDES = "apply_loss_reduction_to_advantages_minibatch"
"""What SkyRL's `ppo_utils` has in versions that divide the advantages before a loss sees them."""


@dataclass(frozen=True)
class SkyrlPolicyLoss:
    """`(log_probs, old_log_probs, advantages, config, loss_mask, rollout_logprobs) -> (loss, metrics)`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    returns: Returns | None = None

    def __call__(
        self,
        log_probs: Tensor,
        old_log_probs: Tensor,
        advantages: Tensor,
        config: Any = None,
        loss_mask: Tensor | None = None,
        rollout_logprobs: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a micro-batch, reduced as this version of SkyRL has it, and metrics."""
        mask = log_probs.new_ones(log_probs.shape) if loss_mask is None else loss_mask
        inputs = BatchLossInputs(
            trainer_logprobs=log_probs,
            inference_logprobs=old_log_probs if rollout_logprobs is None else rollout_logprobs,
            advantages=advantages,
            loss_mask=mask.bool(),
            old_logprobs=old_log_probs,
        )
        rows = named_loss(self.name, self.options, "SkyRL", GIVES).rows(inputs)
        return self._reduced(rows.sums, mask.bool().sum(dim=1), config), rows.metrics

    def _reduced(self, sums: Tensor, lengths: Tensor, config: Any) -> Tensor:
        if (self.returns or _by_version()) == "sum":
            return sums.sum()
        reduction = getattr(config, "loss_reduction", "token_mean")
        if reduction == "token_mean":
            return sums.sum() / lengths.sum().clamp(min=1)
        if reduction == "sequence_mean":
            return (sums / lengths.clamp(min=1)).mean()
        if reduction == "seq_mean_token_sum_norm":
            return sums.mean() / float(config.max_seq_len)
        raise PluginError(f"loss_reduction = {reduction!r}: SkyRL has token_mean, sequence_mean, seq_mean_token_sum_norm.")


def skyrl_policy_loss(name: str, *, returns: Returns | None = None, **options: Any) -> SkyrlPolicyLoss:
    """Return a plugrad loss to register: `register_policy_loss("plugrad_gspo")(skyrl_policy_loss("gspo"))`.

    Args:
        name: the plugrad loss.
        returns: "mean", by `config.loss_reduction`; or "sum", for versions of SkyRL that divide the advantages beforehand.
            Left out, it is what the version needs in which it runs.
        options: the loss's own.
    """
    return SkyrlPolicyLoss(name, options, returns)


def _by_version() -> Returns:
    """Return what the SkyRL that calls makes of a loss."""
    return "sum" if any(hasattr(sys.modules.get(name), DIVIDES) for name in MODULES) else "mean"
