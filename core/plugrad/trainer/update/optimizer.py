"""The optimizer of a run, over the trainable parameters of the policy, its critic and the losses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from torch.optim import Adam, AdamW, Optimizer

from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError, counted
from plugrad.host.bound_optimizer import BoundOptimizer, bound_optimizer
from plugrad.host.loss import BoundLoss
from plugrad.host.master_weights import is_rounded, step_with_masters
from plugrad.host.several_optimizers import SeveralOptimizers, plain_step
from plugrad.policy.offloading import step_with_state_on_cpu
from plugrad.policy.policy import Policy
from plugrad.trainer.update.parameter_groups import ParameterGroup, parameter_groups

logger = logging.getLogger("plugrad")

FUSED_DEVICES = ("cpu", "cuda")
FUSED = (Adam, AdamW)
"""What PyTorch has as one kernel on all of these, for shards of parameters too."""


def make_optimizer(policy: Policy, run_file: RunFile, losses: Sequence[BoundLoss] = ()) -> Optimizer:
    """Return the optimizer as `[optimizer]` sets it, with the rates of other tables for their parameters.

    One object, so that one schedule and one bound on the gradient's norm hold for all.

    Raises:
        PluginError: there is no such optimizer, or it does not take these options.
        RunFileError: one of `[[optimizer.groups]]` has no parameters.
    """
    bound = bound_optimizer(run_file.optimizer, run_file.folders)
    groups = parameter_groups(policy, run_file, losses, matrices_apart=bound.rest is not None)
    lr = run_file.optimizer.lr
    if run_file.optimizer.master_weights:
        _check_masters_differ(groups)
    step = _step(run_file)
    if bound.rest is None:
        made = _make(bound, groups, lr)
        return made if step is plain_step else SeveralOptimizers([made], step)
    matrices, others = ([g for g in groups if g.of_layers is of_layers] for of_layers in (True, False))
    if not matrices:
        raise RunFileError(f"{bound.component} takes matrices alone, and no layer of the policy has one to train.")
    logger.info(
        "%s updates %s inside the policy's layers, and AdamW the rest: %s.",
        bound.cls.__name__,
        counted(_number(matrices), "matrix", "matrices"),
        counted(_number(others), "other parameter"),
    )
    parts = [_make(bound, matrices, lr), *([_make(bound.rest, others, lr)] if others else [])]
    return SeveralOptimizers(parts, step)


def _step(run_file: RunFile) -> Callable[[Optimizer], object]:
    """Return how an optimizer makes its update."""
    step = step_with_masters if run_file.optimizer.master_weights else plain_step
    return partial(step_with_state_on_cpu, step=step) if run_file.memory.offload_optimizer else step


def _check_masters_differ(groups: Sequence[ParameterGroup]) -> None:
    if not any(is_rounded(parameter) for group in groups for parameter in group.parameters):
        raise RunFileError(
            "optimizer.master_weights is true, and no weight that is trained has 16 bits: adapters, or the folder's "
            "weights, are float32 and take every update. Leave it out."
        )


def _make(bound: BoundOptimizer, groups: Sequence[ParameterGroup], lr: float) -> Optimizer:
    made = [group.for_optimizer(decays=bound.takes_decay) for group in groups]
    return bound.create(made, lr, **_fused(bound, groups))


def _fused(bound: BoundOptimizer, groups: Sequence[ParameterGroup]) -> dict[str, bool]:
    """Take one kernel instead of a dozen. PyTorch does not choose it by itself on a CPU; other devices may lack it."""
    options = bound.component.options
    is_chosen = options.get("fused", False) is not None or options.get("foreach") is not None
    if is_chosen or bound.cls not in FUSED:
        return {}
    return {"fused": all(parameter.device.type in FUSED_DEVICES for group in groups for parameter in group.parameters)}


def _number(groups: Sequence[ParameterGroup]) -> int:
    return sum(len(group.parameters) for group in groups)
