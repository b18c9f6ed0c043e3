"""Frozen models beside a sharded policy that computes in bfloat16: their weights are rounded as FSDP2 rounds its own."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from plugrad.policy.policy import Policy
from plugrad.policy.weight_sums import sum_of_weights


def round_weights(frozen: Iterable[Policy], *, keeps_sums: bool) -> None:
    """Round weights to bfloat16. Autocast would keep activations between layers in float32, which FSDP2 does not.

    Buffers stay: FSDP2 leaves them, too.

    Args:
        frozen: they are changed.
        keeps_sums: whether this process must know them by their sums as they were loaded.
    """
    for policy in frozen:
        if keeps_sums:
            policy.sum_as_loaded = sum_of_weights(policy.model.state_dict())
        for parameter in policy.model.parameters():
            # Autocast leaves float64, too.
            if parameter.is_floating_point() and parameter.dtype != torch.float64:
                parameter.data = parameter.data.bfloat16()
