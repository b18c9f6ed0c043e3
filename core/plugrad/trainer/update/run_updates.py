"""From a batch of rollouts to updates of the policy: cut, fixed log-probs, step, metrics."""

from __future__ import annotations

from dataclasses import replace

from plugrad.contracts.measures import Measures
from plugrad.host.hooks import Hooks
from plugrad.trainer.batch.cut import Cutting, OptimizerBatch
from plugrad.trainer.batch.sampler import RolloutBatch
from plugrad.trainer.capture.watch import Watch
from plugrad.trainer.update.fixed_scores import with_fixed_logprobs
from plugrad.trainer.update.learner import Learner
from plugrad.trainer.update.metric_inputs import metric_inputs
from plugrad.trainer.update.run_progress import Progress
from plugrad.trainer.update.step import StepOutcome, train_step


def run_updates(
    learner: Learner,
    batch: RolloutBatch,
    cutting: Cutting,
    hooks: Hooks,
    progress: Progress,
    watch: Watch | None = None,
) -> list[StepOutcome]:
    """Update the policy once for each optimizer batch; every rank calls it with its share.

    Log-probs of frozen models are computed for the whole batch before the first update, and so are those of the old policy
    for the others.
    """
    watch = watch or Watch()
    if watch.keeps_all:
        learner = _with_entropies(learner)
    cut = cutting.cut(batch, learner.ranks)
    # In the first update the policy has not moved: its own log-probs are the old ones, unless dropout makes them others.
    first = learner if learner.own.drops_out else replace(learner, keeps_old=False)
    parts = [_with_fixed_logprobs(learner if number else first, part) for number, part in enumerate(cut)]
    learner.put_away()
    outcomes = []
    for part in parts:
        outcome = train_step(learner, part.micro_batches, hooks, progress, watch)
        metrics = _compute_metrics(part, outcome, hooks, progress)
        # Free the scored tensors now: the metrics are done with them.
        outcomes.append(replace(outcome, metrics=metrics, scored=[]))
        progress = replace(progress, version=progress.version + outcome.updated)
    return outcomes


def _with_entropies(learner: Learner) -> Learner:
    """Let a pass also give the entropies, without gradient: a loss that is tried on a captured batch may read them."""
    wanted = learner.wanted
    return replace(learner, wanted=replace(wanted, entropy="value")) if wanted.entropy == "none" else learner


def _with_fixed_logprobs(learner: Learner, part: OptimizerBatch) -> OptimizerBatch:
    return replace(part, micro_batches=[with_fixed_logprobs(learner, m) for m in part.micro_batches])


def _compute_metrics(part: OptimizerBatch, outcome: StepOutcome, hooks: Hooks, progress: Progress) -> Measures:
    """Call the metrics on this rank's share, and add what they measured to what the losses measured."""
    measures = Measures(outcome.metrics)
    if part.sequences:
        measures.update(hooks.compute_metrics(metric_inputs(part, outcome.scored, progress)))
    return measures
