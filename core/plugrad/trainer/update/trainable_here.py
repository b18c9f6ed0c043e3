"""What these ranks cannot train is refused, what they can is allowed, and what will surprise is said."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import nn

from plugrad.config.tables.optimizer_table import OptimizerTable
from plugrad.errors import ModelError
from plugrad.policy.neighbours import without_gradient
from plugrad.policy.policy import Policy
from plugrad.policy.routers import ignored_router_loss
from plugrad.policy.scored import Wanted
from plugrad.policy.shifts import check_shifts

logger = logging.getLogger("plugrad")


def check_trains_here(policy: Policy, wanted: Wanted, passes: int, accelerator: Accelerator, table: OptimizerTable) -> None:
    """Refuse what these ranks cannot train, allow what they can, and say what will not be as the user may expect."""
    policy.check_gives(wanted)
    if policy.is_compiled and accelerator.distributed_type == DistributedType.FSDP:
        raise ModelError(
            "model.compile is true, and Accelerate's configuration shards the model with FSDP, whose hooks plugrad has not "
            "been tried with in compiled layers. Set model.compile to false, or train without FSDP."
        )
    if passes > 1:
        check_shifts(policy.model)
    if not table.master_weights:
        _warn_of_small_updates(policy, accelerator)
    _check_rows_alone(policy, accelerator)
    _warn_of_router_loss(policy)
    if accelerator.num_processes > 1:
        of_critic = [] if policy.critic is None or policy.critic.model is None else [policy.critic.model]
        _allow_unused_parameters([policy.model, *of_critic], accelerator)


def _warn_of_router_loss(policy: Policy) -> None:
    ignored = ignored_router_loss(policy.model)
    if ignored:
        logger.warning(
            "The model's configuration asks for an auxiliary loss of its routers (output_router_logits = true, %s). It is "
            "not added to the objective: only the losses of the run file are. The metric router/busiest_expert shows "
            "whether the load stays even.",
            ignored,
        )


def _check_rows_alone(policy: Policy, accelerator: Accelerator) -> None:
    if policy.rows_alone and accelerator.distributed_type == DistributedType.FSDP:
        raise ModelError(
            f"{type(policy.model).__name__} needs a forward pass for every sequence, because its results depend on the rows "
            "of a batch, and FSDP needs the same number of passes on every rank. Train without sharding (distributed_type: "
            "MULTI_GPU)."
        )


def _allow_unused_parameters(models: Sequence[nn.Module], accelerator: Accelerator) -> None:
    """Let parameters without a gradient keep their values on several ranks too, as they do on one."""
    unused = [name for model in models for name in without_gradient(model)]
    if not unused:
        return
    logger.info(
        "%d parameters get no gradient from a few tokens of text, the first of them %s: they only change where a batch uses "
        "them.",
        len(unused),
        unused[0],
    )
    handler = accelerator.ddp_handler or DistributedDataParallelKwargs()
    accelerator.ddp_handler = replace(handler, find_unused_parameters=True)


def _warn_of_small_updates(policy: Policy, accelerator: Accelerator) -> None:
    # An adapter is more precise than a base of 16 bits.
    dtype = next((weight.dtype for weight in policy.model.parameters() if weight.requires_grad), torch.float32)
    # Accelerate keeps sharded weights in float32 where it computes in bfloat16.
    keeps_float32 = accelerator.distributed_type == DistributedType.FSDP and accelerator.mixed_precision != "no"
    if torch.finfo(dtype).bits <= 16 and not keeps_float32:
        logger.warning(
            "The weights are %s: an update smaller than %.1e of a weight is rounded away. With a small learning rate the "
            "policy may not learn; optimizer.master_weights = true keeps every update, and so does model.dtype = "
            '"float32", with model.compute_dtype = "bfloat16" or without.',
            str(dtype).removeprefix("torch."),
            torch.finfo(dtype).eps / 2,
        )
