"""Promises about what an extension returns: the right type, finite, repeatable, and determined by its inputs."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from plugrad.errors import InputsChanged
from plugrad.host.loss import BoundLoss
from plugrad.host.trial import on_trial, random_state_of
from plugrad.testing.advantages.trial_groups import draw_groups
from plugrad.testing.checks import Broken, Promise
from plugrad.testing.extensions.extension_trial import ExtensionTrial, Hosted
from plugrad.testing.hosting import bound_loss
from plugrad.testing.losses.trial_micro_batches import draw_micro_batch
from plugrad.testing.metrics.trial_shares import draw_batch
from plugrad.testing.numbers import Numbers, compare_numbers
from plugrad.testing.state import check_state

LIMIT_S = 60.0
COMPUTES = ("prepare_advantages", "compute_advantages", "prepare_loss", "compute_loss")


def _check_runs(extension: ExtensionTrial) -> str:
    hosted, loss = extension.fresh(), bound_loss()
    _call_every_hook(hosted, loss)
    return ", ".join(extension.implemented())


def _call_every_hook(hosted: Hosted, loss: BoundLoss) -> None:
    groups, inputs = draw_groups(), loss.view(draw_micro_batch())
    hosted.hooks.compute_advantages(hosted.hooks.prepare_advantages(groups))
    hosted.hooks.compute_loss(loss, hosted.hooks.prepare_loss(loss, inputs))
    hosted.hooks.compute_metrics(draw_batch())
    hosted.hooks.before_update(grad_norm=1.0, loss=1.0)


def _check_finite(extension: ExtensionTrial) -> str:
    extension.require("prepare_loss")
    found = extension.prepared(draw_micro_batch()).inputs
    for field in fields(found):
        value = getattr(found, field.name)
        if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
            beside = bool(torch.isfinite(value[found.loss_mask]).all()) if value.ndim == 2 else False
            where = " in masked slots" if beside else ""
            raise Broken(f"prepare_loss returns {field.name} with values that are not finite{where}")
    return "everywhere, masked slots included"


def _check_inputs_unchanged(extension: ExtensionTrial) -> str:
    groups, inputs, measured = draw_groups(), draw_micro_batch(), draw_batch()
    hosted, loss = extension.fresh(), bound_loss()
    try:
        with on_trial(str(extension.component), [groups, inputs, measured], LIMIT_S):
            hosted.hooks.compute_advantages(hosted.hooks.prepare_advantages(groups))
            hosted.hooks.compute_loss(loss, hosted.hooks.prepare_loss(loss, loss.view(inputs)))
            hosted.hooks.compute_metrics(measured)
    except InputsChanged as error:
        raise Broken(str(error)) from error
    return "unchanged"


def _check_deterministic(extension: ExtensionTrial) -> str:
    extension.require(*COMPUTES)
    again, first = (_everything(extension, extension.fresh(), batch=0, seed=seed) for seed in (1, 0))
    return compare_numbers(again, first, "Called again on the same batch")


def _check_state(extension: ExtensionTrial) -> str:
    extension.require(*COMPUTES)
    return check_state(
        extension.component,
        extension.fresh,
        lambda hosted: hosted.instance,
        lambda hosted, batch: _everything(extension, hosted, batch, seed=0),
    )


def _everything(extension: ExtensionTrial, hosted: Hosted, batch: int, seed: int) -> Numbers:
    rewards = extension.rewards(draw_groups(seed=batch), hosted, seed)
    return {**rewards, **extension.batch(batch, hosted, seed)}


def _check_metrics_kept(extension: ExtensionTrial) -> str:
    extension.require("compute_metrics")
    hosted, loss = extension.fresh(), bound_loss()
    with random_state_of(0):
        _call_every_hook(hosted, loss)
        measured = hosted.hooks.compute_metrics(draw_batch()).values_by_name()
    expected = {"kit/mean": draw_batch().rewards.mean().item()}
    kept = {name: value for name, value in measured.items() if name in expected}
    compare_numbers(kept, expected, "With the extension around the metrics")
    added = [name for name in measured if name not in expected]
    return f"all kept, and {', '.join(added)} added" if added else "all kept"


RUNS: Promise[ExtensionTrial] = Promise(
    "runs",
    "it implements at least one hook, and each hook returns the type and shape that it receives",
    "The return value of a wrapper replaces what core computed.",
    "Write @plugrad.hookimpl(wrapper=True), `inputs = yield`, and return dataclasses.replace(inputs, ...). Keep every row; "
    "to drop tokens, set loss_mask to False.",
    _check_runs,
)
VALUES: tuple[Promise[ExtensionTrial], ...] = (
    Promise(
        "finite",
        "the inputs that it prepares for a loss are finite, masked slots included",
        "A loss multiplies by the mask, and NaN * 0 is NaN.",
        "Apply torch.where(inputs.loss_mask, x, 0.0) before any division or exponential.",
        _check_finite,
    ),
    Promise(
        "metrics_kept",
        "it keeps the metrics of other components",
        "Otherwise listing an extension removes curves from a run.",
        'Return {**measures, "my_extension/name": ...}, with `measures = yield`.',
        _check_metrics_kept,
    ),
    Promise(
        "inputs_unchanged",
        "it does not change its inputs, and returns new ones",
        "Other losses, extensions and metrics receive the same tensors.",
        "Use dataclasses.replace(inputs, advantages=...). Avoid functions with a trailing underscore. Copy a rollout with "
        "dict(rollout).",
        _check_inputs_unchanged,
    ),
    Promise(
        "deterministic",
        "the same batch gives the same result",
        "Otherwise ranks prepare different rewards, and no run can be repeated.",
        "Do not draw random numbers or read a clock.",
        _check_deterministic,
    ),
    Promise(
        "state",
        "earlier calls do not change its effect on a batch, unless it declares state",
        "State that is not saved is lost with the run. It also differs between ranks, which see different sequences.",
        "Keep only numbers to report. Put other state into state_dict() and load_state_dict().",
        _check_state,
    ),
)
