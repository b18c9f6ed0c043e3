"""The optimizer: AdamW over the policy's trainable parameters."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW, Optimizer

from plugrad.config.tables.optimizer_table import OptimizerTable

FUSED_DEVICES = ("cpu", "cuda")
"""Where PyTorch has AdamW as one kernel."""


def make_optimizer(policy: nn.Module, table: OptimizerTable) -> Optimizer:
    """Return AdamW as `[optimizer]` sets it."""
    beta1, beta2 = table.betas
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    return AdamW(
        trained,
        lr=table.lr,
        betas=(beta1, beta2),
        eps=table.eps,
        weight_decay=table.weight_decay,
        # One kernel instead of a dozen. PyTorch does not choose it by itself on a CPU; other devices may lack it.
        fused=all(parameter.device.type in FUSED_DEVICES for parameter in trained),
    )
