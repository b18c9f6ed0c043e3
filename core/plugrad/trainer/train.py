"""`plugrad.train`: from a run file to a trained model."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from rich.console import Console

from plugrad.config.reading import with_absolute_paths
from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError, RunInterrupted, TrainingError
from plugrad.host.environment import BoundEnvironment
from plugrad.host.preflight import preflight
from plugrad.host.select import resolved, select
from plugrad.policy.loading import quiet_transformers, with_small_defaults
from plugrad.registry.provenance import record
from plugrad.trainer.display import Display, display_for
from plugrad.trainer.folder import check_run_folder, open_run_folder, save_model
from plugrad.trainer.interrupts import StopRequest, stop_requests
from plugrad.trainer.loop import Training, train_loop
from plugrad.trainer.preparation import prepare
from plugrad.trainer.run import RunResult

logger = logging.getLogger("plugrad")

MEMORY_REMEDY = (
    "Lower tokens_per_micro_batch (training) or rollout.generation_batch_size (sampling), or set "
    "model.gradient_checkpointing = true."
)


def train(run_file: RunFile, *, overwrite: bool = False, display: Display | None = None) -> RunResult:
    """Run a run file: check everything that can be checked, then load the model, train, and save it.

    Ctrl-C or SIGTERM lets the step that is going on finish and the model be saved; a second one ends the run at once.
    A run that fails saves the model as it was after the last step.

    Args:
        run_file: what to do; `RunFile.load(path)` reads one.
        overwrite: replace a run that is already in `output_dir`.
        display: what shows the progress; by default a live line in a terminal and plain lines elsewhere.

    Returns:
        Where everything is, and what was recorded.

    Raises:
        PlugradError: a plugin, an option, a model or an example is not what it must be.
        RunInterrupted: a signal ended the run early.
    """
    started = time.perf_counter()
    display = display or display_for(Console())
    run_file = with_absolute_paths(run_file)
    _refuse_what_is_not_supported()
    check_run_folder(Path(run_file.output_dir), overwrite=overwrite)
    quiet_transformers()
    selection = select(run_file)
    environment = BoundEnvironment.create(selection.environment)
    preflight(selection, environment, run_file.rollout.rollouts_per_example, run_file.preflight_timeout_s)
    run_file = _with_model_defaults(resolved(run_file, selection))
    stop = StopRequest()
    training = prepare(run_file, selection, environment, display, stop)
    folder = open_run_folder(run_file, record(selection.components()))
    display.start(training.run, sum(p.numel() for p in training.learner.policy.parameters()))
    with stop_requests(stop):
        num_steps, model = _trained(training)
    result = RunResult(folder, model, num_steps, time.perf_counter() - started, training.metrics_file.records)
    if stop.signal is not None:
        raise RunInterrupted(stop.signal, result)
    return result


def _trained(training: Training) -> tuple[int, Path]:
    """Train and save; return how many steps were done, and where the model is."""
    try:
        training.hooks.on_run_start(training.run)
        with _rescue(training):
            num_steps = train_loop(training)
        model = _save(training)
        training.hooks.on_run_end(training.run)
    finally:
        training.display.close()
        training.sampler.engine.close()
    return num_steps, model


@contextmanager
def _rescue(training: Training) -> Iterator[None]:
    """Where the run fails, save what was learnt until then, and go on failing."""
    try:
        yield
    except Exception as error:
        if training.metrics_file.records:
            with suppress(TrainingError):
                logger.warning("The model as it was after the last step is saved in %s.", _save(training))
        if isinstance(error, torch.OutOfMemoryError):
            raise TrainingError(f"the device is out of memory: {error} {MEMORY_REMEDY}") from error
        raise


def _save(training: Training) -> Path:
    learner = training.learner

    def save(path: Path) -> None:
        learner.accelerator.unwrap_model(learner.policy).model.save_pretrained(path)
        learner.tokenizer.save_pretrained(path)

    return save_model(training.run.folder, save)


def _with_model_defaults(run_file: RunFile) -> RunFile:
    if run_file.model.from_scratch is None:
        return run_file
    tables = run_file.model_dump()
    tables["model"]["from_scratch"] = with_small_defaults(run_file.model.from_scratch)
    return RunFile(**tables)


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
