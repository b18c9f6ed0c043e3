"""The loop: rollouts, advantages, updates, metrics, new weights for the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass

from plugrad.host.environment import BoundEnvironment
from plugrad.host.hooks import Hooks
from plugrad.host.ranges import step_range
from plugrad.rollout.engine import RolloutEngine
from plugrad.run import Run
from plugrad.trainer.batch.cut import Cutting
from plugrad.trainer.batch.failed_plays import check_failures
from plugrad.trainer.batch.prefetch import Rollouts
from plugrad.trainer.batch.sampler import with_advantages
from plugrad.trainer.capture.captures import Captures
from plugrad.trainer.checkpoints.resuming import Start
from plugrad.trainer.checkpoints.snapshot import Place
from plugrad.trainer.checkpoints.writing import Checkpoints
from plugrad.trainer.engine_parity import Parity
from plugrad.trainer.evaluation import Evaluation
from plugrad.trainer.profiling import Profiling
from plugrad.trainer.ranks.interrupts import StopRequest
from plugrad.trainer.record.display import Display
from plugrad.trainer.record.memory import peak_memory_gib
from plugrad.trainer.record.metrics_file import MetricsFile, StepCount
from plugrad.trainer.record.step_record import Cost, Record, make_record
from plugrad.trainer.record.utilisation import Utilisation
from plugrad.trainer.samples.samples import Samples
from plugrad.trainer.tracking.trackers import Trackers
from plugrad.trainer.update.learner import Learner
from plugrad.trainer.update.rollout_scores import with_scores
from plugrad.trainer.update.run_progress import Progress
from plugrad.trainer.update.run_updates import run_updates


@dataclass(frozen=True)
class Training:
    """The objects that make up a run. Runs differ in these objects; the loop is the same for all."""

    run: Run
    learner: Learner
    cutting: Cutting
    hooks: Hooks
    environment: BoundEnvironment
    engine: RolloutEngine
    rollouts: Rollouts
    parity: Parity
    evaluation: Evaluation
    records: StepCount | MetricsFile
    samples: Samples
    display: Display
    stop: StopRequest
    checkpoints: Checkpoints
    profiling: Profiling
    captures: Captures
    start: Start
    """Where the run begins: after the steps that a checkpoint holds."""
    devices: Utilisation | None = None
    """What the run computes on, where its peak is known."""
    num_dropped_prompts: int = 0
    """Prompts that were too long, and that the run leaves out."""

    @property
    def trackers(self) -> Trackers:
        """The experiment trackers, which get the records and the samples."""
        return self.samples.trackers

    @property
    def notes(self) -> dict[str, int]:
        """What `plugins.json` and each record also say."""
        return {"dropped_prompts": self.num_dropped_prompts} if self.num_dropped_prompts else {}


def train_loop(training: Training) -> int:
    """Train until `max_steps`, the target held-out reward or a signal; return the number of steps."""
    max_steps, learner, ranks = training.run.run_file.max_steps, training.learner, training.learner.ranks
    first, version = training.start.place.step, training.start.place.version
    _update_engine(training, version)
    training.parity.check(0)
    if first == 0 and _evaluate_before_training(training, version):
        return 0
    training.start.begin(training.run.run_file.seed, ranks.index)
    for step in range(first, max_steps):
        training.profiling.before(step + 1)
        started = time.perf_counter()
        with step_range("rollouts"):
            sampled = training.rollouts.take(step)
            check_failures(
                sampled.groups,
                training.environment,
                ranks,
                num_greedy=len(sampled.greedy_rewards or ()),
                greedy_failures=sampled.greedy_failures,
            )
        rollouts_s = time.perf_counter() - started
        watch, progress = training.captures.watch(step + 1), Progress(step, max_steps, version)
        with training.captures.of_failures(step + 1, watch):
            with step_range("advantages"):
                scored = with_scores(sampled, learner, training.cutting)
                batch = with_advantages(scored, training.environment, training.hooks, ranks, watch)
            with step_range("updates"):
                updates = run_updates(learner, batch, training.cutting, training.hooks, progress, watch)
        training.captures.after_updates(step + 1, watch)
        version += sum(update.updated for update in updates)
        _update_engine(training, version)
        parity = training.parity.check(step + 1)
        cost = Cost(time.perf_counter() - started, rollouts_s, peak_memory_gib(learner.accelerator.device))
        evaluated = training.evaluation.run_if_due(step + 1, version)
        record = {
            **make_record(step + 1, batch, updates, cost, ranks, training.devices),
            **parity,
            **evaluated,
            **training.notes,
        }
        _write(training, record)
        training.hooks.on_step_end(step + 1, record)
        is_asked, is_last = training.stop.agree(ranks), training.evaluation.ends_the_run(evaluated) or step + 1 == max_steps
        training.samples.of_training(step + 1, batch, is_last=is_last)
        training.checkpoints.after_step(Place(step + 1, version), record, is_last=is_last, is_asked=is_asked)
        if is_asked or is_last:
            return step + 1
    return max_steps


def _evaluate_before_training(training: Training, version: int) -> bool:
    """Evaluate if the run does; return whether the result ends it."""
    evaluated = training.evaluation.run_if_due(0, version)
    if evaluated:
        training.checkpoints.check_best(evaluated)
        _write(training, {"step": 0, **evaluated})
    return training.evaluation.ends_the_run(evaluated)


def _update_engine(training: Training, version: int) -> None:
    """Give the engine the policy's weights, and let the next rollouts know their version."""
    with step_range("weights to the engine"):
        training.engine.update_weights(training.learner.weights, version)
        training.rollouts.set_version(version)


def _write(training: Training, record: Record) -> None:
    training.records.write(record)
    training.trackers.record(record)
    training.display.step(record)
