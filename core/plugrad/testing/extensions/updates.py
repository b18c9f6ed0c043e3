"""Promises about the update that an extension takes part in."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from plugrad.errors import PlugradError
from plugrad.host.prepared import check_nothing_added
from plugrad.host.trial import random_state_of
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.extensions.extension_trial import ExtensionTrial
from plugrad.testing.extensions.runs import silence_logging
from plugrad.testing.losses.cuts import CUTS
from plugrad.testing.losses.trial_micro_batches import LENGTHS, draw_micro_batch
from plugrad.testing.numbers import compare_numbers, is_finite

SEEN_BEFORE_UPDATES = ((1.0, 0.5), (1.0, 0.5), (math.nan, math.nan), (0.1, math.inf), (1e6, 3.0), (0.0, 0.0), (1.0, 0.5))


def _check_counts_nothing_new(extension: ExtensionTrial) -> str:
    extension.require("prepare_loss")
    inputs = draw_micro_batch()
    prepared = extension.prepared(inputs).inputs
    check_nothing_added(str(extension.component), prepared, inputs)
    dropped = int((inputs.loss_mask & ~prepared.loss_mask).sum())
    return f"{dropped} of {int(inputs.loss_mask.sum())} tokens dropped, none added"


def _check_gradient(extension: ExtensionTrial) -> str:
    extension.require("prepare_loss", "compute_loss")
    found = extension.prepared(draw_micro_batch())
    if not bool(found.kept.any()):
        raise NotApplicable("it drops every token of an ordinary batch")
    if not found.values.requires_grad:
        raise Broken("the loss no longer has a gradient with respect to the policy's log-probs")
    if not is_finite(found.gradient):
        raise Broken("the gradient is no longer finite")
    if not bool(found.gradient.any()):
        raise Broken("the gradient is zero at every token")
    return "present"


def _check_micro_batches(extension: ExtensionTrial) -> str:
    extension.require("prepare_loss", "compute_loss")
    whole, seen = extension.batch(0), ""
    for sizes in CUTS:
        hosted, parts = extension.fresh(), torch.arange(len(LENGTHS)).split(list(sizes))
        found = {name: value for part in parts for name, value in extension.sequences(part.tolist(), hosted).items()}
        seen = compare_numbers(found, whole, f"Cut into micro-batches of {', '.join(map(str, sizes))}")
    return seen


def _check_before_update(extension: ExtensionTrial) -> str:
    extension.require("before_update")
    first, second = _collect_decisions(extension, seed=0), _collect_decisions(extension, seed=1)
    for (grad_norm, loss), one, other in zip(SEEN_BEFORE_UPDATES, first, second, strict=True):
        if one != other:
            raise Broken(f"with grad_norm {grad_norm} and loss {loss} one rank {one}, but another {other}")
    decisions = dict(zip(SEEN_BEFORE_UPDATES, first, strict=True))
    return "; ".join(f"grad_norm {norm:g}, loss {loss:g}: {decision}" for (norm, loss), decision in decisions.items())


def _collect_decisions(extension: ExtensionTrial, seed: int) -> list[str]:
    """Return the decisions of one rank's instance, update after update."""
    hooks = extension.fresh().hooks
    with random_state_of(seed), silence_logging():
        return [_decide(hooks.before_update, grad_norm, loss) for grad_norm, loss in SEEN_BEFORE_UPDATES]


def _decide(before_update: Callable[[float, float], bool], grad_norm: float, loss: float) -> str:
    try:
        return "continues" if before_update(grad_norm, loss) else "skips the update"
    except PlugradError as error:
        return f"stops the run ({error})"


UPDATES: tuple[Promise[ExtensionTrial], ...] = (
    Promise(
        "counts_nothing_new",
        "it counts no token that was masked",
        "Prompt and padding have no log-probs: the slots hold 0, and a gradient there means nothing.",
        "Only narrow the mask: loss_mask=inputs.loss_mask & kept.",
        _check_counts_nothing_new,
    ),
    Promise(
        "gradient",
        "the loss of the inputs it prepares still has a gradient",
        "An update without a gradient costs as much as any other and teaches nothing.",
        "Detach weights, never trainer_logprobs or the loss itself.",
        _check_gradient,
    ),
    Promise(
        "micro_batches",
        "its effect on a sequence does not depend on the other sequences of the micro-batch",
        "The cut follows from memory and from the number of processes. It must not change what is learned.",
        "Take sums and means over dim=1, within a sequence. What needs the whole batch belongs in prepare_advantages, "
        "which sees the groups of all ranks.",
        _check_micro_batches,
    ),
    Promise(
        "before_update",
        "before_update decides the same on every rank, for the same numbers in the same order",
        "All ranks receive the same numbers. If they disagree, the veto of one rank holds for all.",
        "Look at grad_norm and loss only: no random number, no clock, no rank.",
        _check_before_update,
    ),
)
