"""One update of the policy: the formula, the gradient, and what the update measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.measures import Mean, Measures, Sum
from plugrad.errors import TrainingError
from plugrad.host.calling import blaming
from plugrad.host.hooks import Hooks
from plugrad.host.loss import BoundLoss, sum_rows, without_empty_rows
from plugrad.host.reported import add_reported
from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.reductions import row_weights
from plugrad.policy.scored import Scored
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.update.kept_graph import naming_kept_graphs
from plugrad.trainer.update.learner import Learner


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


@dataclass(frozen=True)
class Ledger:
    """What an update adds up over its micro-batches."""

    sums: Measures = field(default_factory=Measures)
    """The objective and each loss's share of it."""
    metrics: Measures = field(default_factory=Measures)
    """What the losses measured."""

    def totals(self, ranks: Ranks) -> Measures:
        """Return the sums over all ranks. Each counts as one value, so that several updates are averaged."""
        return Measures({name: Mean(measure.value(), 1.0) for name, measure in ranks.add_up(self.sums).items()})


@dataclass(frozen=True)
class Progress:
    """How far the run is, as losses and metrics see it."""

    step: int
    max_steps: int
    version: int = 0
    """The number of weight updates so far: the version of the policy before the next one."""


def train_step(learner: Learner, micro_batches: Sequence[MicroBatch], hooks: Hooks, progress: Progress) -> StepOutcome:
    """theta <- theta - eta * grad of sum_k weight_k sum_s w_ks loss_ks(theta), over every sequence on every rank.

    The weights w_ks were divided by the counts of all ranks when the batch was cut, so neither the cut nor the number of
    ranks changes the result. Every rank has the same number of micro-batches.
    """
    accelerator, ledger, scored = learner.accelerator, Ledger(), []
    for micro_batch, is_last in _mark_last(micro_batches):
        with nullcontext() if is_last else accelerator.no_sync(learner.policy):
            inputs = forward(learner, micro_batch, progress)
            # The first term is 0. It gives every parameter a gradient even if no token counts.
            objective = inputs.trainer_logprobs.sum() * 0
            terms = [(loss, weighted_sum(hooks, loss, inputs, micro_batch, ledger)) for loss in learner.losses]
            for loss, term in terms:
                objective = objective + loss.weight * term
            with naming_kept_graphs(inputs, terms):
                # DDP and FSDP average over ranks where the formula sums.
                accelerator.backward(objective * accelerator.num_processes)
        ledger.sums.add("loss", Sum(objective.detach()))
        scored.append((micro_batch.rows, _detached(inputs)))
        # Otherwise the logits of this micro-batch would live beside those of the next.
        del inputs, terms, objective
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


def clip_gradient(learner: Learner) -> float:
    """Clip the gradient to `max_grad_norm`; return its norm before."""
    norm = learner.accelerator.clip_grad_norm_(learner.policy.parameters(), learner.max_grad_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def forward(learner: Learner, micro_batch: MicroBatch, progress: Progress) -> BatchLossInputs:
    """Run the policy on a micro-batch: one forward pass for everything that any loss or metric needs."""
    scored: Scored = learner.policy(micro_batch.input_ids, micro_batch.attention_mask, micro_batch.loss_mask, learner.wanted)
    own = scored.logprobs.detach()
    return BatchLossInputs(
        trainer_logprobs=scored.logprobs,
        inference_logprobs=own if micro_batch.inference_logprobs is None else micro_batch.inference_logprobs,
        teacher_logprobs=micro_batch.teacher_logprobs,
        advantages=micro_batch.advantages,
        loss_mask=micro_batch.loss_mask,
        # With one update per batch the policy has not moved since.
        old_logprobs=own if micro_batch.old_logprobs is None else micro_batch.old_logprobs,
        ref_logprobs=micro_batch.ref_logprobs,
        entropy=scored.entropy,
        logits=scored.logits,
        hidden_states=scored.hidden_states,
        embedding=scored.embedding,
        input_ids=micro_batch.input_ids,
        reward=micro_batch.reward,
        group_ids=micro_batch.group_ids,
        member=micro_batch.member,
        metadata=micro_batch.metadata,
        step=progress.step,
        max_steps=progress.max_steps,
    )


def weighted_sum(hooks: Hooks, loss: BoundLoss, inputs: BatchLossInputs, micro_batch: MicroBatch, ledger: Ledger) -> Tensor:
    """Return sum_s w_s loss_s over the micro-batch; add it and the loss's own metrics to the ledger.

    Rows in which nothing counts contribute 0 and never reach the loss.
    """
    weights = row_weights(loss.reduction, micro_batch.row_counts, micro_batch.counts).to(inputs.advantages)
    view = loss.view(inputs)
    prepared = hooks.prepare_loss(loss, view)
    hooks.check_prepared(prepared, view)
    # Unless an extension changed the mask, every row counts: asking the device would cost a synchronisation.
    if prepared.loss_mask is not inputs.loss_mask or not micro_batch.rows:
        counting, kept = without_empty_rows(prepared)
        if counting is None:
            return inputs.trainer_logprobs.sum() * 0
        prepared, weights = counting, weights[kept]
    outputs = hooks.compute_loss(loss, prepared)
    total = (weights * sum_rows(outputs, prepared.loss_mask)).sum()
    ledger.sums.add(f"{loss.label}/loss", Sum(total.detach()))
    owner, num_sequences = str(loss.component), len(prepared.loss_mask)
    with blaming(owner):
        for name, value in outputs.metrics.items():
            told = f"{owner} returned the metric {name!r}"
            add_reported(ledger.metrics, f"{loss.label}/{name}", value, num_sequences, told)
    return total


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
    return replace(inputs, **{**detached, **dict.fromkeys(("logits", "hidden_states", "embedding"))})


def _mark_last(micro_batches: Sequence[MicroBatch]) -> Iterator[tuple[MicroBatch, bool]]:
    for index, micro_batch in enumerate(micro_batches):
        yield micro_batch, index == len(micro_batches) - 1
