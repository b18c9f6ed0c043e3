"""What a capture holds, made from what was watched: everything on the CPU, and facts that JSON has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.rollout import Segment
from plugrad.host.loss import BoundLoss
from plugrad.policy.reductions import RowCounts
from plugrad.trainer.capture.capture_files import CapturedUpdate
from plugrad.trainer.capture.watch import Watch, WatchedUpdate
from plugrad.trainer.update.weighted_losses import Rows


def taken(watch: Watch) -> list[CapturedUpdate]:
    """Return what this rank's losses saw of each update of a step."""
    return [taken_update(update) for update in watch.updates]


def taken_update(update: WatchedUpdate) -> CapturedUpdate:
    """Return what the losses saw of one update."""
    progress = update.progress
    pieces = [_on_cpu(rows) for rows in update.seen]
    return CapturedUpdate(progress.step, progress.max_steps, progress.version, pieces, update.states)


def joined_updates(updates: Sequence[CapturedUpdate]) -> CapturedUpdate:
    """Return an update with the micro-batches of all ranks, in their order. The losses of all are in the same state."""
    return replace(updates[0], pieces=[piece for update in updates for piece in update.pieces])


def rollouts_of(watch: Watch) -> list[dict[str, Any]]:
    """Return this rank's rollouts without numbers of tokens."""
    kept = ("prompt", "completion", "reward", "reward_components", "truncated", "example", "metrics", "policy_versions")
    return [
        {
            "group": watch.first_group + place,
            "member": member,
            "prompt_length": len(rollout["prompt_ids"]),
            **{name: dict(rollout)[name] for name in kept if name in rollout},
            **({"segments": [_described(segment) for segment in rollout["segments"]]} if "segments" in rollout else {}),
        }
        for place, group in enumerate(watch.groups)
        for member, rollout in enumerate(group)
    ]


def _described(segment: Segment) -> dict[str, Any]:
    """Return a row of a rollout: its tokens, and the stretches of them that were sampled."""
    stretches, start = [], 0
    for sampled, tokens in groupby(segment["sampled"]):
        stop = start + len(list(tokens))
        if sampled:
            stretches.append([start, stop])
        start = stop
    return {"ids": segment["ids"], "sampled": stretches}


def described(loss: BoundLoss) -> dict[str, Any]:
    """Return what a loss of the run is, as JSON has it."""
    return {
        "label": loss.label,
        "name": loss.name,
        "reference": loss.component.source.reference,
        "options": dict(loss.component.forms),
        "weight": loss.weight,
        "reduction": loss.reduction,
        "where": None if loss.where is None else {name: list(values) for name, values in loss.where.columns.items()},
        "needs": sorted(loss.needs),
    }


def tokens_in(updates: Iterable[CapturedUpdate]) -> set[int]:
    """Return the tokens of some updates."""
    every = (piece.inputs.input_ids for update in updates for piece in update.pieces)
    return {token for ids in every if ids is not None for token in ids.unique().tolist()}


def _on_cpu(rows: Rows) -> Rows:
    inputs = rows.inputs
    moved: dict[str, Any] = {name: value.cpu() for name, value in vars(inputs).items() if isinstance(value, Tensor)}
    if inputs.parameters is not None:
        moved["parameters"] = {name: value.cpu() for name, value in inputs.parameters.items()}
    counts = RowCounts(rows.row_counts.tokens.cpu(), rows.row_counts.group_tokens.cpu())
    divergences = {of: value.cpu() for of, value in rows.divergences.items()}
    metadata: Sequence[Mapping[str, Any]] = inputs.metadata or []
    given: BatchLossInputs = replace(inputs, **moved, metadata=list(metadata))
    return replace(rows, inputs=given, row_counts=counts, divergences=divergences)
