"""Go on from a checkpoint: put everything back that it holds."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from plugrad.errors import ResumeError
from plugrad.host.environment import BoundEnvironment
from plugrad.host.metric import BoundMetric
from plugrad.host.optimizer_state import classes_of, set_group_states
from plugrad.host.stateful_parts import StatefulPart
from plugrad.shown import printable
from plugrad.trainer.checkpoints.checkpoint_folder import Checkpoint
from plugrad.trainer.checkpoints.origin import origin_of
from plugrad.trainer.checkpoints.random_states import set_new_random_states, set_random_states
from plugrad.trainer.checkpoints.snapshot import Place
from plugrad.trainer.checkpoints.training_tensors import OPTIMIZER, POLICY, load_optimizer, load_policy
from plugrad.trainer.checkpoints.writing import SHARED, own_file
from plugrad.trainer.update.learner import Learner

logger = logging.getLogger("plugrad")


@dataclass(frozen=True)
class Start:
    """Where a run begins: at its beginning, unless a checkpoint says otherwise."""

    place: Place = field(default_factory=Place)
    ahead: Sequence[Sequence[dict[str, Any]]] = ()
    """The batches that each rank of the checkpoint had sampled ahead."""
    random_states: dict[str, Any] | None = None
    """Those of this rank, where the checkpoint has them."""

    def begin(self, seed: int, rank: int) -> None:
        """Set the random states, after all that is done once before the first step."""
        if self.place.step == 0:
            return
        if self.random_states is None:
            set_new_random_states(seed, self.place.step, rank)
        else:
            set_random_states(self.random_states)


def check_same_origin(checkpoint: Checkpoint, learner: Learner, environment: BoundEnvironment) -> None:
    """Check that the run has the examples and the frozen models that it began with.

    Raises:
        ResumeError: it has others.
    """
    before, now = checkpoint.facts["origin"], origin_of(learner, environment)
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        raise ResumeError(
            f"the run cannot go on from {printable(checkpoint.folder)}: {' and '.join(changed)} changed since it began "
            "(the sums differ). Put back what it began with, or start a new run in another output_dir."
        )


def put_back(
    checkpoint: Checkpoint,
    learner: Learner,
    parts: Sequence[StatefulPart],
    metrics: Sequence[BoundMetric],
) -> Start:
    """Put back policy, optimizer, schedule and the state of every plugin; return where to go on. Every rank calls it.

    Raises:
        ResumeError: the checkpoint does not fit the run.
        ContractError: a plugin does not take its state.
    """
    ranks, folder = learner.ranks, checkpoint.folder
    shared = _read(folder / SHARED, learner.accelerator.device)
    # A rank that the checkpoint does not know takes the plugins' state from the first.
    is_known = ranks.index < checkpoint.num_ranks
    of_ranks = [_read(folder / own_file(rank), torch.device("cpu")) for rank in range(checkpoint.num_ranks)]
    own = of_ranks[ranks.index if is_known else 0]
    load_policy(learner, folder / POLICY, ranks.group)
    if _is_of(learner.optimizer, shared):
        load_optimizer(learner, folder / OPTIMIZER, shared["optimizer"], ranks.group)
        _set_groups(learner, shared.get("optimizer_groups"))
    _set_schedule(learner, shared["schedule"])
    _restore(parts, own["plugins"])
    for metric in metrics:
        metric.failures = own["failures"].get(metric.label, 0)
    return Start(
        place=Place(**shared["place"]),
        ahead=[of_rank["ahead"] for of_rank in of_ranks],
        random_states=own["random"] if is_known else None,
    )


def _restore(parts: Sequence[StatefulPart], states: Mapping[str, Mapping[str, Any]]) -> None:
    for part in parts:
        if part.key in states:
            part.restore(states[part.key])
        else:
            logger.warning("The checkpoint holds no state of %s: it begins anew.", part.component)
    left = sorted(states.keys() - {part.key for part in parts})
    if left:
        logger.warning("The checkpoint holds the state of %s, which the run no longer has.", ", ".join(left))


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a state without pickle: what a stranger's folder holds runs nothing."""
    try:
        found: dict[str, Any] = torch.load(path, weights_only=True, map_location=_on(device))
    except UnpicklingError as error:
        # PyTorch's own message shows how to read it all the same.
        raise ResumeError(
            f"{printable(path)} holds something else than plain data, which plugrad did not write: nothing of it was run. "
            "Do not use this checkpoint."
        ) from error
    except Exception as error:
        raise ResumeError(f"{printable(path)} cannot be read: {printable(str(error).partition(chr(10))[0])}.") from error
    return found


def _on(device: torch.device) -> Any:
    """Keep on the CPU what was there, and put the rest on this process's device."""
    return lambda storage, location: storage if location == "cpu" else storage.to(device=device)


def _is_of(optimizer: Optimizer, shared: Mapping[str, Any]) -> bool:
    before, now = shared.get("optimizer_classes", ["AdamW"]), classes_of(optimizer)
    if before != now:
        logger.warning(
            "The checkpoint holds the state of %s, and the run has %s now, which begins anew.",
            " and ".join(before),
            " and ".join(now),
        )
    return bool(before == now)


def _set_groups(learner: Learner, states: Sequence[Mapping[str, Any]] | None) -> None:
    if states is None:
        # An older plugrad wrote none, and had no optimizer that keeps anything there.
        return
    if len(states) != (number := len(learner.optimizer.param_groups)):
        raise ResumeError(
            f"the checkpoint has {len(states)} groups of parameters, and the run has {number} now. Put [optimizer] back as "
            "it was, or start a new run in another output_dir."
        )
    set_group_states(learner.optimizer, states)


def _set_schedule(learner: Learner, state: Mapping[str, Any]) -> None:
    """Put the schedule at its place. The rates themselves come from the run file, which may say others now."""
    scheduler = learner.scheduler
    assert isinstance(scheduler, LambdaLR)
    scheduler.load_state_dict({**state, "base_lrs": scheduler.base_lrs, "lr_lambdas": [None] * len(scheduler.lr_lambdas)})
    rates = [base * at(scheduler.last_epoch) for base, at in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
    for group, rate in zip(learner.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler._last_lr = rates
