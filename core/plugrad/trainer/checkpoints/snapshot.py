"""A snapshot of a run between two steps: copies that the next step does not change."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from plugrad.host.metric import BoundMetric
from plugrad.host.optimizer_state import classes_of, group_states
from plugrad.host.stateful_parts import StatefulPart
from plugrad.trainer.batch.prefetch import Rollouts
from plugrad.trainer.checkpoints.kept_rollouts import kept
from plugrad.trainer.checkpoints.random_states import random_states
from plugrad.trainer.checkpoints.training_tensors import OPTIMIZER, POLICY, optimizer_tensors, policy_tensors
from plugrad.trainer.update.learner import Learner

logger = logging.getLogger("plugrad")


@dataclass(frozen=True)
class Place:
    """Where a run is between two steps."""

    step: int = 0
    """How many steps were done."""
    version: int = 0
    """The number of weight updates so far."""


@dataclass(frozen=True)
class Contents:
    """What a checkpoint is made from: the parts of a run that change."""

    learner: Learner
    rollouts: Rollouts
    parts: Sequence[StatefulPart]
    """The components that keep state."""
    metrics: Sequence[BoundMetric]


@dataclass(frozen=True)
class Snapshot:
    """Copies of what changes in a run, on the CPU."""

    place: Place
    tensors: Mapping[str, Mapping[str, Tensor]]
    """Of policy and optimizer: each rank holds its part."""
    shared: Mapping[str, Any]
    """What is the same on every rank."""
    own: Mapping[str, Any]
    """What each rank has of its own."""


class Copying:
    """Copies the tensors of a run to memory of the CPU, the same memory every time."""

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        self._options = StagingOptions(
            use_pinned_memory=on_gpu, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=on_gpu
        )
        self._stagers: dict[str, DefaultStager] = {}

    def __call__(self, of: str, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return copies; those of the last call with the same `of` may change."""
        stager = self._stagers.setdefault(of, DefaultStager(self._options))
        copies: Any = stager.stage(dict(tensors))
        return copies  # type: ignore[no-any-return]

    def close(self) -> None:
        """Free the memory."""
        for stager in self._stagers.values():
            stager.close()


def snapshot(contents: Contents, place: Place, copying: Copying) -> Snapshot:
    """Copy everything that changes. Every rank calls it after the same step.

    Raises:
        ContractError: a plugin cannot give its state.
    """
    learner = contents.learner
    of_optimizer, numbers = optimizer_tensors(learner)
    return Snapshot(
        place=place,
        tensors={POLICY: copying(POLICY, policy_tensors(learner)), OPTIMIZER: copying(OPTIMIZER, of_optimizer)},
        shared={
            "place": {"step": place.step, "version": place.version},
            "schedule": _plain_schedule(learner),
            "optimizer": numbers,
            "optimizer_classes": classes_of(learner.optimizer),
            "optimizer_groups": group_states(learner.optimizer),
        },
        own={
            "random": random_states(),
            "plugins": {part.key: part.state() for part in contents.parts},
            "failures": {metric.label: metric.failures for metric in contents.metrics},
            "ahead": [kept(batch) for batch in contents.rollouts.ahead()],
        },
    )


def as_bytes(state: Mapping[str, Any]) -> bytes:
    """Return a state as PyTorch saves it."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def own_bytes(own: Mapping[str, Any]) -> bytes:
    """Return a rank's own state as bytes, without the rollouts sampled ahead if an environment put objects into them."""
    written = as_bytes(own)
    if own["ahead"]:
        try:
            torch.load(io.BytesIO(written), weights_only=True)
        except pickle.UnpicklingError as error:
            logger.warning(
                "The batches that were sampled ahead are not in the checkpoint, and a run that goes on from it samples them "
                "again: the environment put something into the rollouts that is neither a number nor text nor a list or "
                "mapping of them. %s",
                str(error).partition("\n")[0],
            )
            return as_bytes({**own, "ahead": []})
    return written


def _plain_schedule(learner: Learner) -> dict[str, Any]:
    return {key: value for key, value in learner.scheduler.state_dict().items() if key != "lr_lambdas"}
