"""`plugrad.train`: from a run file to a trained model."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.console import Console

from plugrad.config.reading import with_absolute_paths
from plugrad.config.run_file import RunFile
from plugrad.contracts.environment import Example
from plugrad.errors import DataError, RunFileError
from plugrad.host.environment import BoundEnvironment
from plugrad.host.hooks import Host
from plugrad.host.preflight import preflight
from plugrad.host.select import Selection, resolved, select
from plugrad.policy.loading import LoadedModel, context_length, load_model, quiet_transformers, with_small_defaults
from plugrad.registry.manager import build_manager
from plugrad.registry.provenance import record
from plugrad.rollout.dataset import DatasetEngine
from plugrad.rollout.engine import RolloutEngine
from plugrad.rollout.transformers import TransformersEngine
from plugrad.trainer.collect import Sampler
from plugrad.trainer.display import Display, display_for
from plugrad.trainer.evaluation import Evaluation
from plugrad.trainer.examples import batches_of
from plugrad.trainer.folder import MODEL, MetricsFile, open_run_folder
from plugrad.trainer.learner import Learner, make_learner
from plugrad.trainer.loop import Training, train_loop
from plugrad.trainer.run import Run, RunResult


def train(run_file: RunFile, *, overwrite: bool = False, display: Display | None = None) -> RunResult:
    """Run a run file: check everything that can be checked, then load the model, train, and save it.

    Args:
        run_file: what to do; `RunFile.load(path)` reads one.
        overwrite: replace a run that is already in `output_dir`.
        display: what shows the progress; by default a live line in a terminal and plain lines elsewhere.

    Returns:
        Where everything is, and what was recorded.

    Raises:
        PlugradError: a plugin, an option, a model or an example is not what it must be.
    """
    started = time.perf_counter()
    display = display or display_for(Console())
    run_file = with_absolute_paths(run_file)
    _refuse_what_is_not_supported()
    quiet_transformers()
    selection = select(run_file)
    environment = BoundEnvironment.create(selection.environment)
    preflight(selection, environment, run_file.rollout.rollouts_per_example)
    run_file = _with_model_defaults(resolved(run_file, selection))
    folder = open_run_folder(run_file, record(selection.components()), overwrite=overwrite)
    training = _prepare(run_file, folder, selection, environment, display)
    display.start(training.run, sum(p.numel() for p in training.learner.policy.parameters()))
    try:
        training.hooks.on_run_start(run=training.run)
        num_steps = train_loop(training)
        model = save_model(training.learner, folder)
        training.hooks.on_run_end(run=training.run)
    finally:
        display.close()
        training.sampler.engine.close()
    return RunResult(folder, model, num_steps, time.perf_counter() - started, training.metrics_file.records)


def save_model(learner: Learner, folder: Path) -> Path:
    """Save model and tokenizer as an ordinary Transformers folder."""
    path = folder / MODEL
    learner.accelerator.unwrap_model(learner.policy).model.save_pretrained(path)
    learner.tokenizer.save_pretrained(path)
    return path


def _prepare(
    run_file: RunFile, folder: Path, selection: Selection, environment: BoundEnvironment, display: Display
) -> Training:
    train_examples, eval_examples = environment.train_examples(), environment.eval_examples()
    if run_file.evaluation.every_steps and not eval_examples:
        raise DataError(
            f"{environment.component} has no held-out examples: set evaluation.every_steps = 0, or give it some."
        )
    accelerator = Accelerator(gradient_accumulation_steps=1)
    set_seed(run_file.seed)
    loaded = load_model(run_file.model, _texts([*train_examples, *eval_examples]))
    learner = make_learner(run_file, loaded, selection.needs, accelerator)
    extensions = [(component, component.create()) for component in selection.extensions]
    room = context_length(loaded.model)
    room = None if room is None else room - run_file.rollout.max_new_tokens
    sampling_engine = TransformersEngine(loaded.model, loaded.tokenizer, run_file.rollout.generation_batch_size)
    return Training(
        run=Run(run_file, folder, accelerator.num_processes),
        learner=learner,
        losses=selection.losses,
        hooks=build_manager(Host(selection.advantage, selection.metrics), extensions).hook,
        batches=batches_of(train_examples, run_file.rollout.prompts_per_step, run_file.seed),
        sampler=Sampler(_engine(run_file, loaded, sampling_engine), environment, loaded.tokenizer, room),
        evaluation=_evaluation(run_file, Sampler(sampling_engine, environment, loaded.tokenizer, room), eval_examples),
        metrics_file=MetricsFile(folder),
        display=display,
    )


def _engine(run_file: RunFile, loaded: LoadedModel, sampling_engine: RolloutEngine) -> RolloutEngine:
    return DatasetEngine(loaded.tokenizer) if run_file.rollout.engine == "dataset" else sampling_engine


def _evaluation(run_file: RunFile, sampler: Sampler, examples: Sequence[Example]) -> Evaluation:
    table = run_file.evaluation
    return Evaluation(
        sampler, examples[: table.num_examples], run_file.rollout.max_new_tokens, table.every_steps, table.stop_at_reward
    )


def _texts(examples: Iterable[Example]) -> Iterator[str]:
    for example in examples:
        for column in ("prompt", "reference"):
            if isinstance(example.get(column), str):
                yield example[column]


def _with_model_defaults(run_file: RunFile) -> RunFile:
    if run_file.model.from_scratch is None:
        return run_file
    tables = run_file.model_dump()
    tables["model"]["from_scratch"] = with_small_defaults(run_file.model.from_scratch)
    return RunFile.model_validate(tables)


def _refuse_what_is_not_supported() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RunFileError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}: this version trains in one process. Start it without a launcher."
        )
    accumulation = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if accumulation != "1":
        raise RunFileError(
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS is {accumulation}: Accelerate would divide the objective by it. "
            "Unset it; tokens_per_micro_batch decides how a batch is cut."
        )
