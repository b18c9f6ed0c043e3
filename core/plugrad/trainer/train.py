"""`plugrad.train`: from a run file to a trained model."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from plugrad.config.rank_shares import check_shares
from plugrad.config.reading import with_absolute_paths
from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError, RunInterrupted, TrainingError
from plugrad.host.environment import BoundEnvironment
from plugrad.host.preflight import preflight
from plugrad.host.select import Selection, resolved, select
from plugrad.policy.loading import quiet_transformers, with_small_defaults
from plugrad.registry.provenance import record
from plugrad.trainer.engines import check_engine, engine_record
from plugrad.trainer.loop import Training, train_loop
from plugrad.trainer.preparation import prepare
from plugrad.trainer.ranks.agreement import on_main, same_everywhere, together
from plugrad.trainer.ranks.failures import failing_together
from plugrad.trainer.ranks.interrupts import StopRequest, stop_requests
from plugrad.trainer.ranks.ranks import Ranks, make_accelerator
from plugrad.trainer.record.display import Display, Silent, display_for
from plugrad.trainer.record.run_diff import EarlierRun
from plugrad.trainer.record.run_folder import MODEL, check_run_folder, open_run_folder, save_model
from plugrad.trainer.run import RunResult

logger = logging.getLogger("plugrad")

MEMORY_REMEDY = (
    "Lower tokens_per_micro_batch (training) or rollout.generation_batch_size (sampling), or set "
    "model.gradient_checkpointing = true."
)


def train(
    run_file: RunFile,
    *,
    overwrite: bool = False,
    like: str | Path | None = None,
    display: Display | None = None,
    num_processes: int | None = None,
) -> RunResult:
    """Run a run file: check everything that can be checked, then load the model, train, and save it.

    Started in several processes by a launcher, all of them call this, and train together.

    Ctrl-C or SIGTERM lets the step that is going on finish and the model be saved; a second one ends the run at once.
    A run that fails saves the model as it was after the last step.

    Args:
        run_file: what to do; `RunFile.load(path)` reads one.
        overwrite: replace a run that is already in `output_dir`.
        like: the folder of an earlier run, or of a model that a run saved; what differs is shown before the model loads.
        display: what shows the progress; by default a live line in a terminal and plain lines elsewhere.
        num_processes: how many processes there must be; by default as many as were started.

    Returns:
        Where everything is, and what was recorded.

    Raises:
        PlugradError: a plugin, an option, a model or an example is not what it must be.
        RankError: another rank failed.
        RunInterrupted: a signal ended the run early.
    """
    started = time.perf_counter()
    run_file = with_absolute_paths(run_file)
    accelerator = make_accelerator()
    ranks = Ranks.of(accelerator)
    with failing_together(ranks):
        result, stop = _train(run_file, overwrite, like, display, num_processes, accelerator, ranks, started)
        ranks.wait()
    if stop.signal is not None:
        raise RunInterrupted(stop.signal, result)
    return result


def _train(
    run_file: RunFile,
    overwrite: bool,
    like: str | Path | None,
    display: Display | None,
    num_processes: int | None,
    accelerator: Accelerator,
    ranks: Ranks,
    started: float,
) -> tuple[RunResult, StopRequest]:
    display = (display or display_for(Console())) if ranks.is_main else Silent()
    together(ranks, lambda: _check_processes(run_file, num_processes, ranks))
    folder = Path(run_file.output_dir)
    on_main(ranks, lambda: check_run_folder(folder, overwrite=overwrite))
    together(ranks, lambda: check_engine(run_file, ranks))
    earlier = None if like is None else on_main(ranks, lambda: EarlierRun.read(like))
    quiet_transformers()
    selection, environment = together(ranks, lambda: _checked_plugins(run_file))
    plugins = {"num_processes": ranks.count, "engine": engine_record(run_file), **record(selection.components())}
    same_everywhere(ranks, plugins, environment)
    run_file = _with_model_defaults(resolved(run_file, selection))
    if earlier:
        display.differs(earlier.folder, earlier.differences(run_file, plugins))
    stop = StopRequest(announces=ranks.is_main)
    training = together(ranks, lambda: prepare(run_file, selection, environment, accelerator, ranks, display, stop))
    plugins["engine"] = engine_record(run_file, training.engine)
    on_main(ranks, lambda: open_run_folder(run_file, plugins))
    display.start(training.run, sum(p.numel() for p in training.learner.policy.parameters()))
    with stop_requests(stop):
        num_steps, model = _trained(training)
    result = RunResult(folder, model, num_steps, time.perf_counter() - started, training.records.records)
    return result, stop


def _check_processes(run_file: RunFile, num_processes: int | None, ranks: Ranks) -> None:
    if num_processes not in (None, ranks.count):
        raise RunFileError(
            f"--num-processes is {num_processes}, and {ranks.count} were started. Leave it out under a launcher of your "
            "own, or leave the launcher to it."
        )
    check_shares(run_file, ranks.count)


def _checked_plugins(run_file: RunFile) -> tuple[Selection, BoundEnvironment]:
    selection = select(run_file)
    environment = BoundEnvironment.create(selection.environment)
    preflight(selection, environment, run_file.rollout.rollouts_per_example, run_file.preflight_timeout_s)
    return selection, environment


def _trained(training: Training) -> tuple[int, Path]:
    """Train and save; return how many steps were done, and where the model is."""
    try:
        training.hooks.on_run_start(training.run)
        with _rescue(training):
            num_steps = train_loop(training)
        model = _save(training)
        training.hooks.on_run_end(training.run)
    except KeyboardInterrupt:
        # At once: an environment that scores a batch ahead may take its time.
        training.rollouts.close(waits=False)
        raise
    finally:
        training.display.close()
        training.engine.close()
        training.rollouts.close()
    return num_steps, model


@contextmanager
def _rescue(training: Training) -> Iterator[None]:
    """Where the run fails, save what was learnt until then, and go on failing."""
    try:
        yield
    except Exception as error:
        learner = training.learner
        # The other ranks may not be there to help: only a model that is whole on the main rank is saved.
        if training.records.records and learner.ranks.is_main and not learner.is_sharded:
            with suppress(TrainingError):
                model = save_model(training.run.folder, learner.save)
                logger.warning("The model as it was after the last step is saved in %s.", model)
        if isinstance(error, torch.OutOfMemoryError):
            raise TrainingError(f"the device is out of memory: {error} {MEMORY_REMEDY}") from error
        raise


def _save(training: Training) -> Path:
    """Save the model from the main rank; every rank takes part, since each may hold a shard of it."""
    learner, folder = training.learner, training.run.folder
    whole = learner.whole_state_dict() if learner.is_sharded else None
    on_main(learner.ranks, lambda: save_model(folder, lambda path: learner.save(path, whole)))
    return folder / MODEL


def _with_model_defaults(run_file: RunFile) -> RunFile:
    if run_file.model.from_scratch is None:
        return run_file
    model = run_file.model.model_copy(update={"from_scratch": with_small_defaults(run_file.model.from_scratch)})
    return run_file.model_copy(update={"model": model})
