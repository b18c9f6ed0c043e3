"""The loop: rollouts, advantages, updates, metrics, new weights for the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass

from plugrad.contracts.measures import Measures
from plugrad.host.environment import BoundEnvironment
from plugrad.host.hooks import Hooks
from plugrad.host.loss import BoundLoss
from plugrad.policy.micro_batches import Layout
from plugrad.rollout.engine import RolloutEngine
from plugrad.trainer.batch.cut import OptimizerBatch, optimizer_batches
from plugrad.trainer.batch.prefetch import Rollouts
from plugrad.trainer.batch.sampler import RolloutBatch, with_advantages
from plugrad.trainer.engine_parity import Parity
from plugrad.trainer.evaluation import Evaluation
from plugrad.trainer.ranks.interrupts import StopRequest
from plugrad.trainer.record.display import Display
from plugrad.trainer.record.memory import peak_memory_gib
from plugrad.trainer.record.run_folder import MetricsFile, Records
from plugrad.trainer.record.step_record import Cost, make_record, measure, measure_batch
from plugrad.trainer.run import Run
from plugrad.trainer.update.learner import Learner
from plugrad.trainer.update.step import Progress, train_step


@dataclass(frozen=True)
class Training:
    """Everything that a run is made of. Two runs that differ have other objects here; the loop is the same."""

    run: Run
    learner: Learner
    losses: list[BoundLoss]
    hooks: Hooks
    environment: BoundEnvironment
    engine: RolloutEngine
    rollouts: Rollouts
    parity: Parity
    evaluation: Evaluation
    records: Records | MetricsFile
    display: Display
    stop: StopRequest


def train_loop(training: Training) -> int:
    """Run to the last step, the held-out reward that ends the run, or a signal; return how many steps were done."""
    max_steps, ranks = training.run.run_file.max_steps, training.learner.ranks
    version = 0
    _hand_over(training, 0, version)
    if _evaluated(training, 0, {"step": 0}):
        return 0
    for step in range(max_steps):
        started = time.perf_counter()
        sampled = training.rollouts.take(step)
        rollouts_s = time.perf_counter() - started
        batch = with_advantages(sampled, training.environment, training.hooks, ranks)
        updates, measured = Measures(), Measures()
        for optimizer_batch in _cut(training, batch):
            progress = Progress(step, max_steps, version)
            outcome = train_step(training.learner, optimizer_batch.micro_batches, training.losses, training.hooks, progress)
            updates.update(outcome.measures)
            measured.update(measure(optimizer_batch, outcome, training.hooks, progress))
            version += outcome.updated
        parity = _hand_over(training, step + 1, version)
        cost = Cost(time.perf_counter() - started, rollouts_s, peak_memory_gib(training.learner.accelerator.device))
        rollouts = ranks.add_up(measure_batch(batch, cost))
        record = {**make_record(step, rollouts, updates, ranks.add_up(measured)), **parity}
        if _evaluated(training, step + 1, record) or training.stop.agreed(ranks):
            return step + 1
    return max_steps


def _cut(training: Training, batch: RolloutBatch) -> list[OptimizerBatch]:
    """Cut the batch, and score it with the models that stay as they are while it is trained on."""
    run_file, learner = training.run.run_file, training.learner
    layout = Layout(run_file.tokens_per_micro_batch, int(learner.tokenizer.pad_token_id), learner.dtype, learner.packs)
    cuts = optimizer_batches(
        batch,
        updates_per_batch=run_file.updates_per_batch,
        max_new_tokens=run_file.rollout.max_new_tokens,
        layout=layout,
        ranks=learner.ranks,
    )
    return [
        OptimizerBatch(cut.groups, cut.sequences, [learner.with_fixed_logprobs(m) for m in cut.micro_batches])
        for cut in cuts
    ]


def _hand_over(training: Training, step: int, version: int) -> dict[str, float]:
    """Give the engine the policy's weights; return how far its log-probs are from the policy's, where that was looked at."""
    training.engine.update_weights(training.learner.weights, version)
    training.rollouts.handed_over(version)
    return training.parity.check(step)


def _evaluated(training: Training, step: int, record: dict[str, float | int]) -> bool:
    """Evaluate if it is due, write the record, and say whether the run ends here; the same on every rank."""
    evaluation, max_steps = training.evaluation, training.run.run_file.max_steps
    found = evaluation.run() if evaluation.is_due(step, max_steps) else {}
    record = {**record, **found}
    if len(record) > 1:
        training.records.write(record)
        training.display.step(record)
    if step:
        training.hooks.on_step_end(step, record)
    return bool(found) and evaluation.ends_the_run(found)
