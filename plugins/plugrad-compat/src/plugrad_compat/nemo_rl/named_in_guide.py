"""CrossEntropyLoss and FocalLoss: classes that the CombinedLoss of NeMo RL's guide creates, and that the guide lacks."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from plugrad_compat.nemo_rl.interfaces import BaseLossFunction


class CrossEntropyLoss(BaseLossFunction):
    """-log p of the target, a mean over the rows, times `weight` of the config (1)."""

    def forward(self, predictions: Tensor, targets: Tensor, **_: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return the mean and the metric `loss`."""
        loss = self.config.get("weight", 1.0) * cross_entropy(predictions, targets)
        return loss, {"loss": loss.item()}


class FocalLoss(BaseLossFunction):
    """-alpha (1 - p)^gamma log p of the target, a mean over the rows (arXiv:1708.02002, eq. 5). `alpha` (1), `gamma` (2)."""

    def forward(self, predictions: Tensor, targets: Tensor, **_: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return the mean and the metric `loss`."""
        alpha, gamma = self.config.get("alpha", 1.0), self.config.get("gamma", 2.0)
        minus_log = cross_entropy(predictions, targets, reduction="none")
        loss = (alpha * (-(-minus_log).expm1()) ** gamma * minus_log).mean()
        return loss, {"loss": loss.item()}
