"""A capture on disk: tensors in `capture.safetensors`, everything else in `capture.json`, and the SHA-256 of both.

Reading it needs no model.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.needs import TeacherDivergence
from plugrad.errors import RunFileError
from plugrad.json_text import json_of, parse_json, plain
from plugrad.paths import expanded, read_bytes, write_text
from plugrad.policy.reductions import Counts, RowCounts
from plugrad.shown import printable, shown
from plugrad.trainer.capture.given_rollouts import given_again, given_apart
from plugrad.trainer.capture.later_captures import CAPTURES
from plugrad.trainer.checkpoints.checkpoint_folder import check_sums, sums_of
from plugrad.trainer.update.weighted_losses import Rows

TENSORS, FACTS, SUMS = "capture.safetensors", "capture.json", "sums.json"
FORMAT = 1
"""Raised when a newer plugrad writes what an older one would misread."""
COUNTS, DIVERGENCE, PARAMETER, STATES = "row_counts.", "divergence.", "parameters/", "states"


@dataclass(frozen=True)
class CapturedUpdate:
    """What the losses of one update saw, on all ranks."""

    step: int
    """Of the run, counted from 0 as losses see it."""
    max_steps: int
    version: int
    """Weight updates before it."""
    pieces: Sequence[Rows]
    """Micro-batches, on the CPU; their counts are those of the whole update."""
    states: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of losses that keep one, by their labels, before the update."""

    @cached_property
    def fields(self) -> frozenset[str]:
        """The fields of the losses' inputs that were captured."""
        found = (frozenset(name for name, value in vars(piece.inputs).items() if value is not None) for piece in self.pieces)
        return frozenset.intersection(*found) if self.pieces else frozenset()


@dataclass(frozen=True)
class Capture:
    """A batch as the losses of a run saw it."""

    facts: Mapping[str, Any]
    """Everything but numbers of tokens: `step`, `run_file`, `plugins`, `losses`, `rollouts`, `tokens`, `failed` and more."""
    updates: Sequence[CapturedUpdate]
    """None at all if the advantage failed: no loss had been called yet."""
    given: AdvantageInputs | None = None
    """What the advantage was given, if it failed."""

    def check_has_losses(self) -> None:
        """Raise RunFileError if no loss saw this batch."""
        if not self.updates:
            raise RunFileError(
                f"no loss has seen the batch of step {self.facts['step']}: the run failed in its advantage. Call that again "
                "with `plugrad replay CAPTURE`, or give the capture of another step."
            )

    @property
    def rollouts(self) -> dict[tuple[int, int], dict[str, Any]]:
        """The rollouts by group and member."""
        return {(rollout["group"], rollout["member"]): rollout for rollout in self.facts["rollouts"]}

    def text_of(self, token: int) -> str:
        """Return what a token reads as."""
        return str(self.facts["tokens"].get(str(token), f"<{token}>"))


def write_capture(folder: Path, capture: Capture) -> None:
    """Write a capture beside, and give it its name once it is whole. One that was there is replaced.

    Raises:
        OSError: the disk is full or is gone.
        SafetensorError: as safetensors says it.
    """
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        updates, tensors = _taken_apart(capture.updates)
        facts = {"format": FORMAT, **capture.facts, "updates": updates}
        if capture.given is not None:
            facts["given"], given = given_apart(capture.given)
            tensors.update(given)
        save_file(tensors, unfinished / TENSORS)
        write_text(unfinished / FACTS, json.dumps(plain(facts), default=shown, allow_nan=False) + "\n")
        write_text(unfinished / SUMS, json_of(sums_of(unfinished, (unfinished / TENSORS, unfinished / FACTS))))
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_capture(folder: str | Path) -> Capture:
    """Read a capture.

    Raises:
        RunFileError: the folder holds no capture that this plugrad can read, or a file of it has changed.
    """
    path = expanded(folder)
    if not (path / FACTS).is_file():
        raise RunFileError(
            f"{printable(path)} holds no capture: it has no {FACTS}. Give a folder such as runs/my_run/{CAPTURES}/"
            "step_000050. A run keeps the batches of the steps in [capture] steps, and of an update that fails."
        )
    try:
        facts = parse_json(read_bytes(path / FACTS), FACTS)
        if facts["format"] != FORMAT:
            raise ValueError(f"it has format {facts['format']}, and this plugrad reads format {FORMAT}")
        _check_whole(path)
        tensors = load_file(path / TENSORS)
        updates = [_put_together(number, update, tensors) for number, update in enumerate(facts["updates"])]
        given = given_again(facts["given"], tensors) if "given" in facts else None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise RunFileError(
            f"the capture in {printable(path)} cannot be read: {type(error).__name__}: {printable(error)}. It was cut off "
            "or changed, or another version of plugrad wrote it: copy it again, or capture the step again."
        ) from error
    return Capture(facts, updates, given)


def _check_whole(folder: Path) -> None:
    """Check that both files have the bytes that were written.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is missing or has other bytes.
    """
    if not (folder / SUMS).is_file():
        raise ValueError(f"it has no {SUMS}, so nobody can tell whether it is whole")
    sums = parse_json(read_bytes(folder / SUMS), SUMS)
    known = sums if isinstance(sums, dict) else {}
    check_sums(folder, {name: known.get(name, "") for name in (TENSORS, FACTS)})


def _taken_apart(updates: Sequence[CapturedUpdate]) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Return the updates as JSON has them, and all tensors by name."""
    described, tensors = [], {}
    for number, update in enumerate(updates):
        facts: dict[str, Any] = {name: getattr(update, name) for name in ("step", "max_steps", "version")}
        facts["counts"] = asdict(update.pieces[0].counts)
        facts["pieces"] = []
        for place, piece in enumerate(update.pieces):
            own = {f"{number}/{place}/{name}": value for name, value in _tensors_of(piece).items()}
            tensors.update(own)
            facts["pieces"].append({"metadata": piece.inputs.metadata, "divergences": list(map(asdict, piece.divergences))})
        described.append(facts)
        if update.states:
            buffer = io.BytesIO()
            torch.save(dict(update.states), buffer)
            tensors[f"{number}/{STATES}"] = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
    # Copies: some of these are the same memory under two names, which the format does not have.
    return described, {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}


def _tensors_of(piece: Rows) -> dict[str, Tensor]:
    found = {name: value for name, value in vars(piece.inputs).items() if isinstance(value, Tensor)}
    found.update({f"{PARAMETER}{name}": value for name, value in (piece.inputs.parameters or {}).items()})
    found.update({f"{COUNTS}{name}": getattr(piece.row_counts, name) for name in ("tokens", "group_tokens")})
    found.update({f"{DIVERGENCE}{place}": value for place, value in enumerate(piece.divergences.values())})
    return found


def _put_together(number: int, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> CapturedUpdate:
    of_losses = {label: Counts(**counts) for label, counts in facts["counts"]["of_losses"].items()}
    counts = Counts(**{**facts["counts"], "of_losses": of_losses})
    places = {name: facts[name] for name in ("step", "max_steps", "version")}
    pieces = [
        _piece(
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)},
            piece,
            {"step": facts["step"], "max_steps": facts["max_steps"]},
            counts,
        )
        for place, piece in enumerate(facts["pieces"])
        for prefix in [f"{number}/{place}/"]
    ]
    states = tensors.get(f"{number}/{STATES}")
    loaded = {} if states is None else torch.load(io.BytesIO(states.numpy().tobytes()), weights_only=True)
    return CapturedUpdate(**places, pieces=pieces, states=loaded)


def _piece(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], place: Mapping[str, Any], counts: Counts) -> Rows:
    special = (COUNTS, DIVERGENCE, PARAMETER)
    given: dict[str, Any] = {name: value for name, value in tensors.items() if not name.startswith(special)}
    parameters = {name.removeprefix(PARAMETER): value for name, value in tensors.items() if name.startswith(PARAMETER)}
    return Rows(
        BatchLossInputs(**given, **place, metadata=facts["metadata"], parameters=parameters or None),
        RowCounts(tensors[f"{COUNTS}tokens"], tensors[f"{COUNTS}group_tokens"]),
        counts,
        all_count=True,
        divergences={
            TeacherDivergence(**of): tensors[f"{DIVERGENCE}{place}"] for place, of in enumerate(facts["divergences"])
        },
    )
