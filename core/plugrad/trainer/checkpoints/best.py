"""The best step of a run so far, by one of its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plugrad.config.tables.evaluation_table import PREFIX
from plugrad.errors import RunFileError, did_you_mean
from plugrad.host.select import Selection
from plugrad.registry.bind import Component
from plugrad.shown import shown
from plugrad.trainer.checkpoints.checkpoint_folder import best_in
from plugrad.trainer.ranks.ranks import Ranks

OF_THE_TRAINER = (
    "step", "reward", "loss", "grad_norm", "lr", "skipped_updates", "dropped_rollouts", "failed_greedy_plays",
    "dropped_prompts", "seconds", "rollouts_s", "tokens_per_s", "num_tokens", "tokens_per_s_per_device", "mfu", "memory_gib",
    "inference_mismatch/parity", "inference_mismatch/parity_max", "router/busiest_expert",
)  # fmt: skip
"""The numbers of a step that no component names."""


def check_best(name: str | None, selection: Selection) -> None:
    """Check what can be known of `keep_best` before the first step: that something in the run may record such a number.

    Raises:
        RunFileError: nothing does.
    """
    may_add = any(map(_may_add_numbers, selection.extensions))
    if name is None or may_add or name in OF_THE_TRAINER:
        return
    labels = [*(loss.label for loss in selection.losses), *(metric.label for metric in selection.metrics)]
    prefix, slash, own = name.partition("/")
    if slash and prefix in (PREFIX, "environment", *labels):
        return
    known = [*OF_THE_TRAINER, *(f"{loss.label}/loss" for loss in selection.losses)]
    meant = did_you_mean(name, known) or did_you_mean(name, [f"{label}/{own}" for label in labels])
    raise RunFileError(
        f"checkpoint.keep_best = {shown(name)} is no number that the run records.{meant} A step records "
        f"{', '.join(OF_THE_TRAINER)}, and what begins with {', '.join(f'{label}/' for label in labels)} or environment/."
    )


def _may_add_numbers(extension: Component) -> bool:
    """Return whether an extension may add numbers of any name; of a function, it is not known what it returns."""
    return not isinstance(extension.target, type) or hasattr(extension.target, "compute_metrics")


@dataclass
class BestSoFar:
    """The greatest value of a number that a step of the run had. Every rank has the same."""

    name: str | None
    value: float = -math.inf

    @classmethod
    def of(cls, folder: Path, name: str | None, first_step: int, ranks: Ranks) -> BestSoFar:
        """Return what it was after `first_step` steps: the best checkpoint is still there."""
        if name is None or not first_step:
            return cls(name)
        best = ranks.from_main(lambda: best_in(folder, name, first_step))
        return cls(name) if best is None else cls(name, best.value)

    def is_beaten_by(self, record: Mapping[str, float]) -> bool:
        """Return whether a step is better than all before it, and note its value.

        Raises:
            RunFileError: its record has no such number, nor ever will.
        """
        if self.name is None or not record:
            return False
        if self.name not in record:
            # A number of the evaluation is one of other steps.
            if self.name.startswith(f"{PREFIX}/"):
                self.check_evaluated(record)
                return False
            raise _is_none(self.name, list(record), "A step records")
        if not record[self.name] > self.value:
            return False
        self.value = record[self.name]
        return True

    def check_evaluated(self, record: Mapping[str, float]) -> None:
        """Check that an evaluation has the number, if it is one of an evaluation and the record holds any.

        Raises:
            RunFileError: it has not.
        """
        names = [name for name in record if name.startswith(f"{PREFIX}/")]
        if names and self.name is not None and self.name.startswith(f"{PREFIX}/") and self.name not in names:
            raise _is_none(self.name, names, "An evaluation reports")

    def of_record(self, record: Mapping[str, float]) -> dict[str, float]:
        """Return the number of a step by its name; nothing if the step has none that is finite."""
        value = math.nan if self.name is None else record.get(self.name, math.nan)
        return {self.name: value} if self.name is not None and math.isfinite(value) else {}


def _is_none(asked: str, names: Sequence[str], which: str) -> RunFileError:
    return RunFileError(
        f"checkpoint.keep_best = {shown(asked)} is no number that the run records.{did_you_mean(asked, names)} "
        f"{which} {', '.join(names)}."
    )
