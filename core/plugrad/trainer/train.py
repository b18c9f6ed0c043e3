"""`plugrad.train`: from a run file to a trained model."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console

from plugrad.config.run_file import RunFile
from plugrad.errors import TrainingError
from plugrad.registry.calls_in_progress import long_calls_noticed
from plugrad.registry.no_exit import no_exit_in_calls
from plugrad.run_result import RunInterrupted, RunResult
from plugrad.trainer.checked_run import CheckedRun, check_run
from plugrad.trainer.engines import engine_record
from plugrad.trainer.loop import Training, train_loop
from plugrad.trainer.preparation import prepare
from plugrad.trainer.ranks.accelerate_config import make_accelerator
from plugrad.trainer.ranks.failure_watch import failing_together
from plugrad.trainer.ranks.interrupts import stop_requests
from plugrad.trainer.ranks.peers import Peers
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.record.display import Display, Silent, display_for
from plugrad.trainer.record.run_diff import EarlierRun
from plugrad.trainer.record.run_folder import MODEL, open_run_folder
from plugrad.trainer.record.save import save_model
from plugrad.trainer.saving_on_failure import saving_on_failure, telling_where_it_is

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

    Under a launcher, every process calls this, and all of them train together.

    Ctrl-C, SIGTERM or SIGHUP finishes the current step and saves the model; a second Ctrl-C or SIGTERM ends the run at
    once. A run that fails saves the model as it was after the last step.

    Args:
        run_file: what to do; `RunFile.load(path)` reads one.
        overwrite: replace a run that is already in `output_dir`.
        like: the folder of an earlier run, or of a model that a run saved. The differences are shown before the model loads.
        display: shows the progress; by default a live line in a terminal and plain lines elsewhere.
        num_processes: how many processes there must be; by default however many were started.

    Returns:
        Where everything is, and what was recorded.

    Raises:
        PlugradError: a plugin, an option, a model or an example cannot be used.
        RankError: another rank failed.
        RunInterrupted: a signal ended the run early.
    """
    started = time.perf_counter()
    run_file = run_file.with_absolute_paths()
    accelerator = make_accelerator()
    ranks = Ranks.of(accelerator)
    display = (display or display_for(Console())) if ranks.is_main else Silent()
    with no_exit_in_calls(), failing_together(ranks) as peers:
        earlier = None if like is None else ranks.on_main(lambda: EarlierRun.read(like))
        checked = check_run(run_file, ranks, overwrite=overwrite, num_processes=num_processes)
        if earlier:
            display.show_differences(earlier.folder, earlier.differences(checked.run_file, checked.plugins))
        training = ranks.together(lambda: prepare(checked, accelerator, ranks, display))
        plugins = {**checked.plugins, "engine": engine_record(run_file, training.engine), **training.notes}
        ranks.on_main(lambda: open_run_folder(checked.run_file, plugins))
        with stop_requests(training.stop), long_calls_noticed(f" ({ranks.name})" if ranks.count > 1 else ""):
            num_steps, model = _train_and_save(training, peers)
        result = _result(training, checked, model, num_steps, time.perf_counter() - started)
        ranks.wait()
    if training.stop.signal is not None:
        raise RunInterrupted(training.stop.signal, result)
    return result


def _result(training: Training, checked: CheckedRun, model: Path, num_steps: int, seconds: float) -> RunResult:
    records, learns = training.records.records, checked.selection.learns_from_rewards
    return RunResult(training.run.folder, model, num_steps, seconds, records, learns_from_rewards=learns)


def _train_and_save(training: Training, peers: Peers) -> tuple[int, Path]:
    """Train and save; return how many steps were done, and where the model is."""
    training.display.start(training.run, sum(p.numel() for p in training.learner.policy.parameters()))
    try:
        training.hooks.on_run_start(training.run)
        peers.begin()
        with _failing_as_a_run_that_had_begun(peers):
            with saving_on_failure(training):
                num_steps = train_loop(training)
            model = _save(training)
            training.stop.is_saved = True
            with telling_where_it_is(model):
                training.hooks.on_run_end(training.run)
    except KeyboardInterrupt as stopped:
        model = training.run.folder / MODEL
        saved = f"The model is in {model}." if training.stop.is_saved else "No model was saved."
        stopped.add_note(f"Finished steps, if any, are in metrics.jsonl. {saved}")
        # At once: an environment that scores a batch ahead may take a while.
        training.rollouts.close(waits=False)
        raise
    finally:
        training.display.close()
        training.engine.close()
        training.rollouts.close()
    return num_steps, model


@contextmanager
def _failing_as_a_run_that_had_begun(peers: Peers) -> Iterator[None]:
    """Give every failure the exit code of a run that had begun, and let it through."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        peers.noticed.set()
        if isinstance(error, torch.OutOfMemoryError):
            out_of_memory = TrainingError(f"the device is out of memory: {error} {MEMORY_REMEDY}")
            out_of_memory.exit_code = 1
            raise out_of_memory from error
        error.exit_code = 1  # type: ignore[attr-defined]
        raise


def _save(training: Training) -> Path:
    """Save the model from the main rank. Every rank takes part, since each may hold a shard of it."""
    learner, folder = training.learner, training.run.folder
    whole = learner.whole_weights() if learner.is_sharded else None
    learner.ranks.on_main(lambda: save_model(folder, lambda path: learner.save(path, whole)))
    return folder / MODEL
