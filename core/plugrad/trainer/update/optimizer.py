"""The optimizer: AdamW over the trainable parameters of the policy, its critic and the losses, in a group for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.optim import AdamW, Optimizer

from plugrad.config.run_file import RunFile
from plugrad.config.tables.own_optimizer_table import OwnOptimizerTable
from plugrad.host.loss import BoundLoss
from plugrad.host.trained_module import key_of
from plugrad.policy.policy import Policy

FUSED_DEVICES = ("cpu", "cuda")
"""Where PyTorch has AdamW as one kernel."""


def make_optimizer(policy: Policy, run_file: RunFile, losses: Sequence[BoundLoss] = ()) -> Optimizer:
    """Return AdamW as `[optimizer]` sets it, with the rates of other tables for their parameters.

    One optimizer, so that one schedule and one bound on the gradient's norm hold for all.
    """
    table = run_file.optimizer
    beta1, beta2 = table.betas
    groups = list(_groups(policy, run_file, losses))
    return AdamW(
        groups,
        lr=table.lr,
        betas=(beta1, beta2),
        eps=table.eps,
        weight_decay=table.weight_decay,
        # One kernel instead of a dozen. PyTorch does not choose it by itself on a CPU; other devices may lack it.
        fused=all(parameter.device.type in FUSED_DEVICES for group in groups for parameter in group["params"]),
    )


def _groups(policy: Policy, run_file: RunFile, losses: Sequence[BoundLoss]) -> Iterator[dict[str, Any]]:
    of_critic = set() if policy.critic is None else {id(parameter) for parameter in policy.critic.parameters()}
    of_losses = {id(parameter) for parameter in policy.trained.parameters()}
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    yield {"params": [parameter for parameter in trained if id(parameter) not in of_critic | of_losses]}
    values = [parameter for parameter in trained if id(parameter) in of_critic]
    if values:
        lr = run_file.optimizer.lr if run_file.critic is None else run_file.critic.lr or run_file.optimizer.lr
        yield {"params": values, "lr": lr}
    for loss in losses:
        if loss.trains:
            table = loss.optimizer or OwnOptimizerTable()
            own = [p for p in policy.trained[key_of(loss.label)].parameters() if p.requires_grad]
            yield {"params": own, "lr": table.lr or run_file.optimizer.lr, "weight_decay": table.weight_decay}
