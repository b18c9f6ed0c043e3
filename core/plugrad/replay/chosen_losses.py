"""The losses that are run on a capture: those of its run, by their labels there, and any others."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from plugrad.contracts.loss import POLICY_OUTPUTS
from plugrad.contracts.markers import LossFacts, Reduction
from plugrad.contracts.where import Where
from plugrad.errors import OptionError, PluginError, did_you_mean
from plugrad.host.labels import labels_of
from plugrad.host.load import load_component
from plugrad.host.loss import BoundLoss
from plugrad.host.plugin_state import restore_state
from plugrad.host.trained_module import parameters_of_loss
from plugrad.registry.bind import Component
from plugrad.registry.resolve import load as load_source
from plugrad.registry.resolve import resolve, search_modules_in
from plugrad.registry.scan import Catalogue, scan
from plugrad.replay.run_hooks import folders_of
from plugrad.trainer.capture.capture_files import Capture, CapturedUpdate

INSTEAD = {
    "again": "it runs the policy again, and a capture has no policy. `plugrad check` tries it with made-up passes.",
    "logits": "a capture leaves out logits, which take tokens x vocabulary. `plugrad check` tries it with made-up ones.",
    "teacher_logits": "a capture leaves out logits, which take tokens x vocabulary. `plugrad check` tries it with made-up "
    "ones.",
}


def chosen_losses(capture: Capture, asked: Sequence[str] = (), sets: Mapping[str, Any] | None = None) -> list[BoundLoss]:
    """Return the losses that are asked for, ready to be called; those of the run if none is.

    Args:
        capture: has the run's losses. One of these is found by its label, and keeps its options, weight and reduction.
        asked: labels of the run, or `name`, `package/name`, `module:function` or `file.py:function`.
        sets: options, for each of these losses that has one of that name; `LABEL.OPTION` is for that loss alone.

    Raises:
        PlugradError: one is not found, does not take an option, or needs what the capture does not have.
    """
    capture.check_has_losses()
    of_run: dict[str, Mapping[str, Any]] = {described["label"]: described for described in capture.facts["losses"]}
    catalogue, folders, sets = scan(), folders_of(capture), sets or {}
    names = list(asked or of_run)
    others = labels_of([*of_run, *(_short(name) for name in names if name not in of_run)])[len(of_run) :]
    labels = [name if name in of_run else others.pop(0) for name in names]
    used: set[str] = set()
    bound = []
    for name, label in zip(names, labels, strict=True):
        known = of_run.get(name, {})
        reference = known.get("reference", name)
        target = load_source(_source(reference, catalogue, folders))
        own = {option: value for key, value in sets.items() if (option := _option(key, label, target)) is not None}
        used.update(key for key in sets if _option(key, label, target) is not None)
        component = load_component("loss", reference, {**known.get("options", {}), **own}, catalogue, folders)
        bound.append(_bound(component, label, known))
    unknown = sorted(sets.keys() - used)
    if unknown:
        options = {option for loss in bound for option in loss.component.options}
        raise OptionError(
            f"--set {unknown[0]}: none of the losses {', '.join(labels)} has such an option."
            f"{did_you_mean(unknown[0], options)} They have {', '.join(sorted(options)) or 'none'}."
        )
    for loss in bound:
        for update in capture.updates:
            check_has_needs(loss, update)
    return bound


def check_has_needs(loss: BoundLoss, update: CapturedUpdate) -> None:
    """Check that a capture has all that a loss reads.

    Raises:
        PluginError: it lacks something. Says why, and what to do.
    """
    for need, why in INSTEAD.items():
        if need in loss.needs:
            raise PluginError(f"{loss.component} cannot be replayed: it needs {need}: {why}")
    lacking = sorted(loss.needs - update.fields - {"teacher_divergence", "metadata"})
    if lacking:
        raise PluginError(
            f"{loss.component} cannot be replayed on this capture: it needs {' and '.join(lacking)}, which the run did not "
            "compute for it. Capture a step of a run in which a loss or a metric needs the same, with this loss at weight = "
            "0 for example."
        )
    if loss.divergence is not None and any(loss.divergence not in piece.divergences for piece in update.pieces):
        raise PluginError(
            f"{loss.component} cannot be replayed on this capture: it needs {loss.divergence}, and no loss of the run did. "
            "Capture a step of a run with this loss and the same options."
        )
    own = [parameters_of_loss(piece.inputs.parameters, loss.label) for piece in update.pieces]
    if loss.trains and not all(own):
        raise PluginError(
            f"{loss.component} cannot be replayed on this capture: it trains parameters of its own, and the capture has no "
            f"values for a loss with the label {loss.label!r}. Capture a step of a run that trains with it. A batch that "
            "failed late in its update has no parameters either."
        )


def in_state_of(loss: BoundLoss, update: CapturedUpdate) -> BoundLoss:
    """Return the same loss with a new instance, in the state that it had before an update."""
    fresh = loss.fresh()
    if loss.label in update.states:
        restore_state(fresh.component, fresh.instance, update.states[loss.label])
    return fresh


def is_sensed(name: object) -> bool:
    """Whether a derivative is one with respect to numbers of tokens or sequences, not to parameters of a loss."""
    return not isinstance(name, str) or name in POLICY_OUTPUTS


def _source(reference: str, catalogue: Catalogue, folders: Sequence[Path]) -> Any:
    source = resolve("loss", reference, catalogue, folders)
    search_modules_in(folders)
    return source


def _bound(component: Component, label: str, known: Mapping[str, Any]) -> BoundLoss:
    assert isinstance(component.facts, LossFacts)
    where = known.get("where")
    return BoundLoss.create(
        component,
        label=label,
        weight=float(known.get("weight", 1.0)),
        reduction=cast(Reduction, known.get("reduction", component.facts.reduction)),
        where=Where.of(where) if where else None,
    )


def _short(reference: str) -> str:
    """Return what a loss is called: without its package, module or file."""
    return reference.rpartition(":")[2].rpartition("/")[2]


def _option(key: str, label: str, target: Any) -> str | None:
    """Return which option of this loss an assignment is for, if any."""
    owner, _, option = key.rpartition(".")
    if owner not in ("", label):
        return None
    try:
        known = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return None
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())
    return option if option in known or takes_any else None
