"""One update of the policy: the formula, the gradient, and what the update measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.measures import Mean, Measures, Sum
from plugrad.contracts.needs import TeacherDivergence
from plugrad.errors import TrainingError
from plugrad.host.hooks import Hooks
from plugrad.policy.micro_batches import MicroBatch
from plugrad.trainer.capture.watch import Watch
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.update.kept_graph import naming_kept_graphs
from plugrad.trainer.update.learner import Learner
from plugrad.trainer.update.made_passes import all_passes
from plugrad.trainer.update.model_outputs import model_outputs
from plugrad.trainer.update.objective import Forwarded, forward
from plugrad.trainer.update.run_progress import Progress
from plugrad.trainer.update.weighted_losses import Ledger, Rows, weighted_sum
from plugrad.trainer.update.whole_batch import Slopes, slopes_of_mixing_losses


@dataclass(frozen=True)
class StepOutcome:
    """What one update did and measured."""

    measures: Measures
    """Of the update as a whole: the same on every rank."""
    metrics: Measures
    """What losses and metrics measured on this rank."""
    updated: bool
    scored: list[tuple[list[int], BatchLossInputs]]
    """For the metrics: the rows of each micro-batch and the losses' inputs for them, detached."""


def train_step(
    learner: Learner, micro_batches: Sequence[MicroBatch], hooks: Hooks, progress: Progress, watch: Watch
) -> StepOutcome:
    """theta <- theta - eta * grad of sum_k weight_k sum_s w_ks loss_ks(theta), over every sequence on every rank.

    The weights w_ks were divided by the counts of all ranks when the batch was cut, so neither the cut nor the number of
    ranks changes the result. Every rank has the same number of micro-batches.
    """
    ledger, scored = Ledger.of(learner.losses), []
    watch.begin(learner.losses, progress)
    # Before any gradient: they see the policy as the micro-batches will.
    slopes = slopes_of_mixing_losses(learner, micro_batches, hooks, progress, ledger, watch)
    for index, micro_batch in enumerate(micro_batches):
        is_last = index == len(micro_batches) - 1
        with nullcontext() if is_last else learner.accelerator.no_sync(learner.policy), learner.keeping_activations():
            inputs = _add_gradient(learner, micro_batch, hooks, progress, slopes[index], ledger, watch)
        scored.append((micro_batch.rows, inputs))
    grad_norm = clip_gradient(learner)
    lr, measures = learner.lr, ledger.totals(learner.ranks)
    updated = _may_update(learner.ranks, hooks, grad_norm, measures["loss"].value())
    if updated:
        learner.optimizer.step()
        learner.scheduler.step()
        _tell_losses(learner, measures, ledger.metrics)
    learner.optimizer.zero_grad(set_to_none=True)
    measures.update({name: Mean(value, 1.0) for name, value in learner.router_balance().items()})
    measures.update({"grad_norm": Mean(grad_norm, 1.0), "lr": Mean(lr, 1.0), "skipped_updates": Sum(float(not updated))})
    return StepOutcome(measures, ledger.metrics, updated, scored)


def _add_gradient(
    learner: Learner,
    micro_batch: MicroBatch,
    hooks: Hooks,
    progress: Progress,
    slopes: Slopes,
    ledger: Ledger,
    watch: Watch,
) -> BatchLossInputs:
    """Add the gradient of a micro-batch's part of the objective; return the losses' inputs, detached."""
    passes = all_passes(learner, micro_batch)
    given = forward(learner, micro_batch, progress, learner.wanted, passes)
    inputs = given.inputs
    rows = Rows(
        inputs, micro_batch.row_counts, micro_batch.counts, all_count=bool(micro_batch.rows), divergences=given.divergences
    )
    with watch.passing(rows):
        objective = _nothing(inputs) + _linear(slopes, given)
        counting = []
        for loss in (loss for loss in learner.losses if not loss.facts.whole_batch):
            with watch.call(loss):
                term = weighted_sum(hooks, loss, rows, ledger)
            passes.complete(loss.passes - 1)
            if term is not None:
                counting.append((loss, term))
                objective = objective + loss.weight * term
        objective = objective + passes.nothing()
        with naming_kept_graphs(inputs, counting, passes.outputs()):
            # DDP and FSDP average over ranks where the formula sums.
            learner.accelerator.backward(objective * learner.accelerator.num_processes)
    return _detached(inputs)


def _nothing(inputs: BatchLossInputs) -> Tensor:
    """Return 0, with a gradient for every parameter even if no token counts: what wraps the policy waits for each."""
    of_critic = 0 if inputs.values is None else inputs.values.sum() * 0
    of_losses = sum(parameter.sum() * 0 for parameter in (inputs.parameters or {}).values())
    return inputs.trainer_logprobs.sum() * 0 + of_critic + of_losses


def _linear(slopes: Slopes, given: Forwarded) -> Tensor | float:
    """Return the sum over rows of <slope, output of the policy>: its gradient is that of the losses that mix rows."""
    total: Tensor | float = 0.0
    outputs = model_outputs(given.inputs)
    for name, slope in slopes.items():
        output = given.divergences[name] if isinstance(name, TeacherDivergence) else outputs[name]
        total = total + (slope * output).sum()
    return total


def clip_gradient(learner: Learner) -> float:
    """Clip the gradient to `max_grad_norm`; return its norm before."""
    norm = learner.accelerator.clip_grad_norm_(learner.policy.parameters(), learner.max_grad_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _tell_losses(learner: Learner, sums: Measures, metrics: Measures) -> None:
    """Give every loss that asks for it what the update measured of it, over all micro-batches and ranks."""
    telling = [loss for loss in learner.losses if loss.learns_of_updates]
    if not telling:
        return
    measured = {**learner.ranks.add_up(metrics).values_by_name(), **sums.values_by_name()}
    for loss in telling:
        prefix = f"{loss.label}/"
        loss.after_update({n.removeprefix(prefix): value for n, value in measured.items() if n.startswith(prefix)})


def _may_update(ranks: Ranks, hooks: Hooks, grad_norm: float, loss: float) -> bool:
    # Every rank passes the same numbers, but an extension may use others. Combine the answers, or policies would diverge.
    if not all(ranks.gather(hooks.before_update(grad_norm, loss))):
        return False
    if not (math.isfinite(grad_norm) and math.isfinite(loss)):
        raise TrainingError(
            f"the loss is {loss} and the norm of its gradient {grad_norm}: this update would turn the policy into NaN. "
            'Add [[extension]] name = "nan_guard" to skip such updates and count them; if there are many, lower '
            "optimizer.lr or look at the largest ratio under inference_mismatch."
        )
    return True


def _detached(inputs: BatchLossInputs) -> BatchLossInputs:
    detached: dict[str, Any] = {name: v.detach() for name, v in vars(inputs).items() if isinstance(v, Tensor)}
    # No metric reads them: they are freed before the update ends.
    freed = ("logits", "teacher_logits", "hidden_states", "embedding", "parameters", "again", "sensitivity")
    return replace(inputs, **{**detached, **dict.fromkeys(freed)})
