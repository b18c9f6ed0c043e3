"""Promises about what a loss remembers: calls leave no trace, `after_update` may, and a checkpoint carries it."""

from __future__ import annotations

from plugrad.host.loss import BoundLoss
from plugrad.host.plugin_state import keeps_state
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.kept_graphs import graphs_kept_by
from plugrad.testing.losses.loss_trial import LossTrial, Row, compare_rows, numbers_of
from plugrad.testing.losses.trial_micro_batches import LENGTHS, draw_micro_batch, rows_of
from plugrad.testing.numbers import Numbers
from plugrad.testing.state import check_resumes, resumes_promise

BEFORE, LATER = 0, 1
"""The seeds of the micro-batch of one update and of the next."""


def _check_state(loss: LossTrial) -> str:
    used = loss.fresh()
    before = _rows(loss, used, BEFORE)
    _rows(loss, used, LATER)
    seen = compare_rows(_rows(loss, used, BEFORE), before, "Called again after another batch")
    _require_no_graph(used)
    if used.learns_of_updates and not keeps_state(loss.component, used.instance):
        raise Broken("it has after_update, and no state_dict and load_state_dict")
    return seen


def _check_resumes(loss: LossTrial) -> str:
    return check_resumes(
        loss.component,
        loss.fresh,
        lambda bound: bound.instance,
        lambda bound, update: _update(loss, bound, update),
    )


def _update(loss: LossTrial, bound: BoundLoss, seed: int) -> Numbers:
    """Call it on a micro-batch, tell it of the update, and return its numbers."""
    rows = _rows(loss, bound, seed)
    measures = _measures(loss, bound, seed)
    bound.after_update(measures)
    return {**numbers_of(rows), **{f"the metric {name!r}": value for name, value in measures.items()}}


def _require_no_graph(used: BoundLoss) -> None:
    kept = next(graphs_kept_by(used.instance), None)
    if kept:
        raise Broken(
            f"after a call it keeps a tensor with its graph: {kept}",
            why="A graph holds the activations of a whole forward pass in memory, and a list of them grows without end.",
            fix="Keep x.detach(), or a number. What you want to know of an update is a metric: after_update receives it.",
        )


def _check_after_update(loss: LossTrial) -> str:
    if not loss.fresh().learns_of_updates:
        raise NotApplicable("it has no after_update")
    whole, in_parts, idle, measures = loss.fresh(), loss.fresh(), loss.fresh(), _measures(loss)
    inputs = draw_micro_batch(seed=BEFORE)
    loss.rows(inputs, whole)
    for row in range(len(LENGTHS)):
        loss.rows(rows_of(inputs, [row]), in_parts)
    for bound in (whole, in_parts, idle):
        bound.after_update(measures)
    expected = _rows(loss, whole, LATER)
    compare_rows(_rows(loss, idle, LATER), expected, "On a rank that had no sequence in the update before")
    return compare_rows(_rows(loss, in_parts, LATER), expected, "Called once per sequence in the update before")


def _rows(loss: LossTrial, bound: BoundLoss, seed: int) -> list[Row]:
    return loss.rows(draw_micro_batch(seed=seed), bound)


def _measures(loss: LossTrial, bound: BoundLoss | None = None, seed: int = BEFORE) -> dict[str, float]:
    """Return what a run would tell the loss after an update."""
    inputs = draw_micro_batch(seed=seed)
    metrics = {name: measure.value() for name, measure in loss.measures(inputs, bound).items()}
    return {**metrics, "loss": sum(row.value for row in loss.rows(inputs, bound))}


STATE: tuple[Promise[LossTrial], ...] = (
    Promise(
        "state",
        "earlier calls do not matter",
        "A loss is called once per micro-batch on every rank. What a call changes depends on the cut and on the number of "
        "ranks.",
        "Keep nothing in globals, default arguments or on self when called. Change state in after_update(measures) alone, "
        "and give the class state_dict() and load_state_dict().",
        _check_state,
    ),
    resumes_promise(_check_resumes),
    Promise(
        "after_update",
        "what it learns of an update comes from the measures alone",
        "Ranks see different sequences of an update. A loss that remembers its own calls differs between them.",
        "Return what you want to know as a metric: after_update receives it, computed over all micro-batches and ranks.",
        _check_after_update,
    ),
)
