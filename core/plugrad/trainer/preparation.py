"""Prepare a run: from what the checks resolved to models, engine, hooks and the order of examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed

from plugrad.config.run_file import RunFile
from plugrad.contracts.environment import Example
from plugrad.errors import DataError
from plugrad.host.environment import BoundEnvironment
from plugrad.host.hooks import Hooks, Host
from plugrad.host.loss import num_passes
from plugrad.host.optimizer_trial import check_shards
from plugrad.host.select import Selection
from plugrad.host.stateful_parts import StatefulPart, stateful_parts
from plugrad.policy.context import Context, context_of
from plugrad.policy.described_model import described, source_of
from plugrad.policy.loading import LoadedModel, load_model
from plugrad.policy.micro_batches import Layout
from plugrad.registry.bind import Component
from plugrad.rollout.prompts import strings_of
from plugrad.rollout.stops import stop_ids
from plugrad.rollout.texts import Texts
from plugrad.run import Run
from plugrad.trainer.batch.cut import Cutting
from plugrad.trainer.batch.data_order import batches_of
from plugrad.trainer.batch.play_limits import limits_of_plays
from plugrad.trainer.batch.prefetch import Ahead, Drawing, Rollouts, WhenNeeded, sampling_of, texts_for_sampling
from plugrad.trainer.batch.sampler import Sampler
from plugrad.trainer.batch.sequence_limits import FittingExamples, check_teacher_prompts, fitting_examples
from plugrad.trainer.capture.captures import Captures
from plugrad.trainer.checked_run import CheckedRun
from plugrad.trainer.checkpoints.checkpoint_folder import Checkpoint
from plugrad.trainer.checkpoints.kept_rollouts import restored
from plugrad.trainer.checkpoints.resuming import Start, check_same_origin, put_back
from plugrad.trainer.checkpoints.snapshot import Contents
from plugrad.trainer.checkpoints.writing import Checkpoints
from plugrad.trainer.engine_parity import (
    MAX_NEW_TOKENS,
    NUM_PROMPTS,
    NothingToCompare,
    Parity,
    SampleAndScore,
    default_bound,
)
from plugrad.trainer.engines import check_sampling_when_sharded, open_engine, open_sampling_engine
from plugrad.trainer.evaluation import Evaluation
from plugrad.trainer.evaluation_plan import EvaluationPlan
from plugrad.trainer.held_out_sets import every_held_out
from plugrad.trainer.loop import Training
from plugrad.trainer.memory_check import check_memory, tell_memory
from plugrad.trainer.not_used import say_what_is_not_used
from plugrad.trainer.profiling import Profiling
from plugrad.trainer.ranks.interrupts import StopRequest
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.record.display import Display
from plugrad.trainer.record.metrics_file import MetricsFile, StepCount
from plugrad.trainer.record.utilisation import num_that_count, utilisation_of
from plugrad.trainer.samples.samples import samples_of
from plugrad.trainer.update.frozen_models import load_frozen_models, load_teachers
from plugrad.trainer.update.learner import Learner, make_learner


def prepare(
    checked: CheckedRun, accelerator: Accelerator, ranks: Ranks, display: Display, checkpoint: Checkpoint | None = None
) -> Training:
    """Load the models and open the engine, and put back what a checkpoint holds. Nothing is written.

    Raises:
        ModelError: a model cannot be loaded.
        DataError: an example cannot be used with it.
    """
    run_file, selection, environment = checked.run_file, checked.selection, checked.environment
    train_examples, eval_examples = environment.train_examples(), every_held_out(environment, checked.of_sets)
    loaded = _loaded(checked, accelerator, [*train_examples, *eval_examples])
    texts = Texts.of(run_file.rollout, loaded.tokenizer, stop_ids(loaded.model, loaded.tokenizer))
    examples, room = _that_fit(train_examples, eval_examples, texts, checked, context_of(loaded.model))
    if ranks.is_main:
        say_what_is_not_used(examples, run_file, loaded.tokenizer)
    learner = _make_learner(run_file, selection, loaded, accelerator, ranks)
    _check_teachers(learner, examples, texts, run_file)
    extensions = [(component, component.create()) for component in selection.extensions]
    plan = EvaluationPlan.of(checked, examples.held_out)
    parts = _stateful_parts(checked, extensions, plan)
    start = Start() if checkpoint is None else _from_checkpoint(checkpoint, learner, plan, parts, environment)
    # Last: until here, a failure leaves nothing open.
    sampler, greedy = _samplers(checked, loaded, accelerator, ranks, texts, room)
    rollouts = _rollouts(checked, examples.train, ranks, sampler, greedy, start)
    samples, cutting = samples_of(run_file, texts, display, ranks), _cutting(run_file, learner, sampler)
    run = Run(run_file, Path(run_file.output_dir), ranks.count, ranks.index, start.place.step)
    return Training(
        run=run,
        learner=learner,
        cutting=cutting,
        hooks=Hooks(Host(selection.advantage, selection.metrics), extensions),
        environment=environment,
        engine=sampler.engine,
        rollouts=rollouts,
        parity=_parity(run_file, sampler, learner, examples.train),
        evaluation=Evaluation.of(run_file, plan, greedy, learner, cutting, samples),
        records=MetricsFile(run.folder) if ranks.is_main else StepCount(),
        samples=samples,
        display=display,
        stop=StopRequest(announces=ranks.is_main),
        checkpoints=_checkpoints(run, Contents(learner, rollouts, parts, plan.every_metric), environment),
        captures=Captures(run, learner),
        profiling=Profiling(run.folder, run_file.profile.steps, ranks.index),
        start=start,
        devices=utilisation_of(accelerator.device, ranks.count, num_that_count(learner.policy)),
        num_dropped_prompts=examples.num_dropped,
    )


def _loaded(checked: CheckedRun, accelerator: Accelerator, examples: Sequence[Example]) -> LoadedModel:
    """Load the policy, once everything says that it fits here."""
    run_file = checked.run_file
    _check_fits_here(checked, accelerator)
    # Read once: for the estimate, and to load it.
    known = described(source_of(run_file.model, run_file.folders)) if run_file.model.name else None
    texts_of = partial(strings_of, examples)
    tell_memory(run_file, checked.selection, accelerator, known, texts_of)
    set_seed(run_file.seed)
    return load_model(run_file.model, texts_of(), run_file.folders, known)


def _checkpoints(run: Run, contents: Contents, environment: BoundEnvironment) -> Checkpoints:
    return Checkpoints(run.folder, run.run_file.checkpoint, contents, environment, run.first_step)


def _that_fit(
    train: Sequence[Example], held_out: Sequence[Example], texts: Texts, checked: CheckedRun, context: Context
) -> tuple[FittingExamples, int | None]:
    """Return the examples whose prompts fit the context, and how long a prompt may be."""
    run_file = checked.run_file
    room = None if context.length is None else context.length - run_file.rollout.max_new_tokens
    with _explaining(context):
        passes = num_passes(checked.selection.losses)
        return fitting_examples(train, held_out, texts, run_file, room, passes), room


def _check_fits_here(checked: CheckedRun, accelerator: Accelerator) -> None:
    check_memory(checked.run_file, checked.selection, accelerator)
    if accelerator.distributed_type == DistributedType.FSDP:
        check_sampling_when_sharded(checked.run_file, samples_greedily=_compares_with_greedy(checked.selection))
        check_shards(checked.selection.optimizer)


def _compares_with_greedy(selection: Selection) -> bool:
    return "greedy_rewards" in selection.advantage.needs


@contextmanager
def _explaining(context: Context) -> Iterator[None]:
    """Add to the error of an example that does not fit why the context is short."""
    try:
        yield
    except DataError as error:
        if not context.why:
            raise
        raise DataError(f"{error} {context.why}") from error


def _make_learner(
    run_file: RunFile, selection: Selection, loaded: LoadedModel, accelerator: Accelerator, ranks: Ranks
) -> Learner:
    needs, first = selection.needs, selection.scores_first
    frozen = load_frozen_models(run_file, loaded, needs | first, accelerator.device)
    teachers = load_teachers(run_file, loaded, needs | first, accelerator.device)
    return make_learner(
        run_file,
        loaded,
        frozen,
        selection.losses,
        teachers=teachers,
        needs=needs,
        scores_first=first,
        accelerator=accelerator,
        ranks=ranks,
    )


def _samplers(
    checked: CheckedRun, loaded: LoadedModel, accelerator: Accelerator, ranks: Ranks, texts: Texts, room: int | None
) -> tuple[Sampler, Sampler]:
    """Open the engine of the rollouts, and what completes greedily; return what samples with each."""
    run_file = checked.run_file
    engine = open_engine(run_file, loaded, ranks, accelerator.autocast)
    limits = limits_of_plays(checked, loaded.model)
    replays = not run_file.rollout.engine_kind.samples
    sampler = Sampler(
        engine, checked.environment, texts_for_sampling(run_file, texts), room, limits=None if replays else limits
    )
    return sampler, replace(
        sampler, limits=limits, engine=open_sampling_engine(engine, run_file, loaded, ranks, accelerator.autocast)
    )


def _cutting(run_file: RunFile, learner: Learner, sampler: Sampler) -> Cutting:
    layout = Layout(
        run_file.tokens_per_micro_batch,
        int(learner.tokenizer.pad_token_id),
        learner.dtype,
        learner.packs,
        num_passes(learner.losses),
    )
    wheres = {loss.label: loss.where for loss in learner.losses if loss.where}
    cutting = Cutting(run_file.updates_per_batch, run_file.rollout.max_new_tokens, layout, wheres=wheres)
    return replace(cutting, teacher_prompt=sampler.teacher_prompt) if learner.teachers else cutting


def _check_teachers(learner: Learner, examples: FittingExamples, texts: Texts, run_file: RunFile) -> None:
    if learner.teachers:
        reading = [learner.model, *learner.teachers.frozen_models()]
        check_teacher_prompts(examples.train, texts, run_file, reading, num_passes(learner.losses))


def _stateful_parts(
    checked: CheckedRun, extensions: Sequence[tuple[Component, Any]], plan: EvaluationPlan
) -> list[StatefulPart]:
    return stateful_parts(
        environment=checked.environment,
        advantage=checked.selection.advantage,
        losses=checked.selection.losses,
        metrics=plan.every_metric,
        extensions=extensions,
        held_out=plan.parts,
    )


def _from_checkpoint(
    checkpoint: Checkpoint,
    learner: Learner,
    plan: EvaluationPlan,
    parts: Sequence[StatefulPart],
    environment: BoundEnvironment,
) -> Start:
    learner.ranks.on_main(lambda: check_same_origin(checkpoint, learner, environment))
    return learner.ranks.together(lambda: put_back(checkpoint, learner, parts, plan.every_metric))


def _rollouts(
    checked: CheckedRun, examples: Sequence[Example], ranks: Ranks, sampler: Sampler, greedy: Sampler, start: Start
) -> Rollouts:
    run_file, first = checked.run_file, start.place.step
    size, seed = run_file.rollout.prompts_per_step, None if checked.environment.in_order else run_file.seed
    kept = restored(start.ahead, batches_of(examples, size, seed, first), ranks)
    batches = batches_of(examples, size, seed, first + len(kept))
    drawing = Drawing(
        batches=(ranks.share_of(batch) for batch in batches),
        sampler=sampler,
        sampling=sampling_of(run_file, ranks.index),
        greedy=greedy if _compares_with_greedy(checked.selection) else None,
    )
    staleness = run_file.rollout.max_staleness
    if not staleness:
        return WhenNeeded(drawing)
    return Ahead(drawing, staleness, run_file.max_steps, first_step=first, kept=kept)


def _parity(run_file: RunFile, sampler: Sampler, learner: Learner, examples: Sequence[Example]) -> Parity:
    table = run_file.rollout
    if not table.engine_kind.samples:
        return NothingToCompare()
    sampling = sampling_of(run_file, learner.ranks.index)(-1)
    return SampleAndScore(
        engine=sampler.engine,
        learner=learner,
        prompts=sampler.prompts(examples[:NUM_PROMPTS]),
        sampling=replace(sampling, num_completions=1, max_new_tokens=min(table.max_new_tokens, MAX_NEW_TOKENS)),
        every_steps=table.parity_every_steps,
        bound=table.parity_bound or default_bound(learner.computes_in),
    )
