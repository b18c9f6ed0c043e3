"""`plugrad.train`: from a run file to a trained model."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from plugrad.config.run_file import RunFile
from plugrad.lasting_console import LastingConsole
from plugrad.registry.calls_in_progress import long_calls_noticed
from plugrad.registry.no_exit import no_exit_in_calls
from plugrad.run_result import Lines, RunInterrupted, RunResult
from plugrad.trainer.checked_run import CheckedRun, check_run
from plugrad.trainer.checkpoints.checkpoint_folder import remove_unfinished
from plugrad.trainer.checkpoints.going_on import GoingOn, check_changes, find, note_other_keys
from plugrad.trainer.engines import engine_record
from plugrad.trainer.lack_of_memory import as_our_error, lacks_memory, within_memory
from plugrad.trainer.loop import Training, train_loop
from plugrad.trainer.preparation import prepare
from plugrad.trainer.ranks.accelerate_config import make_accelerator
from plugrad.trainer.ranks.failure_watch import failing_together
from plugrad.trainer.ranks.interrupts import stop_requests
from plugrad.trainer.ranks.peers import Peers
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.record.display import Display, Silent, display_for
from plugrad.trainer.record.held_folder import held_run_folder
from plugrad.trainer.record.history import FINISHED, RESUMED, STARTED, STOP_AT_REWARD, STOPPED, note
from plugrad.trainer.record.metrics_file import MetricsFile
from plugrad.trainer.record.run_diff import Difference, EarlierRun
from plugrad.trainer.record.run_folder import METRICS, MODEL, open_run_folder
from plugrad.trainer.record.save import save_model
from plugrad.trainer.saving_on_failure import saving_on_failure, telling_where_it_is

logger = logging.getLogger("plugrad")


def train(
    run_file: RunFile,
    *,
    overwrite: bool = False,
    resume: bool = False,
    allow_changes: bool = False,
    like: str | Path | None = None,
    display: Display | None = None,
    num_processes: int | None = None,
) -> RunResult:
    """Run a run file: check everything, then load the model, train, save it, and return where everything is.

    Under a launcher, every process calls this, and all of them train together.
    Ctrl-C, SIGTERM, SIGUSR1 or SIGHUP finishes the current step and saves the model and a checkpoint; a second Ctrl-C or
    SIGTERM ends the run at once. A run that fails saves the model as it was after the last step.

    Args:
        run_file: what to do; `RunFile.load(path)` reads one.
        overwrite: replace a run that is already in `output_dir`.
        resume: go on from the newest whole checkpoint in `output_dir`, or begin where there is none.
        allow_changes: go on even if the run file, a plugin or a version has changed since the checkpoint.
        like: the folder of an earlier run, or of a model that a run saved. The differences are shown before the model loads.
        display: shows the progress; by default a live line in a terminal and plain lines elsewhere.
        num_processes: how many processes there must be; by default however many were started.

    Raises:
        PlugradError: a plugin, an option, a model or an example cannot be used.
        RankError: another rank failed.
        RunInterrupted: a signal ended the run early.
    """
    started = time.perf_counter()
    run_file = run_file.with_absolute_paths()
    accelerator = make_accelerator(run_file.model)
    ranks = Ranks.of(accelerator)
    display = (display or display_for(LastingConsole())) if ranks.is_main else Silent()
    with no_exit_in_calls(), failing_together(ranks) as peers, held_run_folder(Path(run_file.output_dir), ranks):
        going_on = ranks.from_main(lambda: _found(run_file)) if resume else GoingOn()
        if going_on.finished_at is not None:
            return _complete(run_file, going_on.finished_at, ranks)
        checked = check_run(run_file, ranks, overwrite=overwrite, resume=resume, num_processes=num_processes)
        if like is not None:
            ranks.on_main(lambda: _show_differences(EarlierRun.read(like), checked, display))
        changes = _changes(going_on, checked, ranks, display, allow_changes=allow_changes)
        preparing = partial(prepare, checked, accelerator, ranks, display, going_on.checkpoint)
        training = ranks.together(lambda: within_memory(preparing))
        ranks.on_main(lambda: _open_folder(training, checked, changes, resume=resume))
        result = _run(training, peers, started, learns_from_rewards=checked.selection.learns_from_rewards)
    if training.stop.signal is not None:
        raise RunInterrupted(training.stop.signal, result, can_go_on=training.checkpoints.latest == result.num_steps)
    return result


def _run(training: Training, peers: Peers, started: float, *, learns_from_rewards: bool) -> RunResult:
    """Train and save; return where everything is."""
    ranks = training.learner.ranks
    training.stop.misses_a_rank = peers.has_ended
    with stop_requests(training.stop), long_calls_noticed(f" ({ranks.name})" if ranks.count > 1 else ""):
        num_steps, model = _train_and_save(training, peers)
    lines = next(lines for lines in ranks.gather(training.records.lines) if lines)
    seconds = time.perf_counter() - started
    return RunResult(training.run.folder, model, num_steps, seconds, lines, learns_from_rewards=learns_from_rewards)


def _train_and_save(training: Training, peers: Peers) -> tuple[int, Path]:
    """Train and save; return how many steps were done, and where the model is."""
    learner = training.learner
    counted = [p for p in learner.policy.parameters() if p.requires_grad or learner.adapter is None]
    training.display.start(training.run, sum(p.numel() for p in counted))
    try:
        training.hooks.on_run_start(training.run)
        peers.begin()
        with _failing_as_a_run_that_had_begun(peers):
            with saving_on_failure(training):
                num_steps = train_loop(training)
            model = _save(training)
            training.stop.is_saved = True
            training.learner.ranks.on_main(lambda: _note_end(training, num_steps))
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
        training.profiling.close()
        training.checkpoints.close()
        training.captures.close()
        training.display.close()
        training.trackers.close()
        training.engine.close()
        training.rollouts.close()
    return num_steps, model


def _found(run_file: RunFile) -> GoingOn:
    remove_unfinished(Path(run_file.output_dir))
    return find(run_file)


def _complete(run_file: RunFile, num_steps: int, ranks: Ranks) -> RunResult:
    """Return the result of a run that was complete before."""
    folder = Path(run_file.output_dir)
    ranks.on_main(lambda: note_other_keys(run_file))
    logger.warning("The run in %s was complete after %d steps: there is nothing to do.", folder, num_steps)
    return RunResult(folder, folder / MODEL, num_steps, 0.0, Lines.of(folder / METRICS))


def _changes(
    going_on: GoingOn, checked: CheckedRun, ranks: Ranks, display: Display, *, allow_changes: bool
) -> list[Difference]:
    """Return what changed since the checkpoint, and show it."""
    checkpoint = going_on.checkpoint
    if checkpoint is None:
        return []
    found = ranks.from_main(
        lambda: check_changes(checkpoint, checked.run_file, checked.plugins, allow_changes=allow_changes)
    )
    if found:
        display.show_differences(checkpoint.folder, found)
    return found


def _show_differences(earlier: EarlierRun, checked: CheckedRun, display: Display) -> None:
    display.show_differences(earlier.folder, earlier.differences(checked.run_file, checked.plugins))


def _open_folder(training: Training, checked: CheckedRun, changes: list[Difference], *, resume: bool) -> None:
    run = training.run
    plugins = {**checked.plugins, "engine": engine_record(checked.run_file, training.engine), **training.notes}
    open_run_folder(checked.run_file, plugins, goes_on_after=run.first_step, resume=resume)
    if run.first_step and isinstance(training.records, MetricsFile):
        training.records.go_on()
    training.trackers.begin(checked.run_file, plugins, first_step=run.first_step)
    event = RESUMED if run.first_step else STARTED
    note(run.folder, event, run.first_step, num_processes=run.num_processes, changes=[vars(each) for each in changes])


def _note_end(training: Training, num_steps: int) -> None:
    run = training.run
    if training.stop.signal is not None:
        note(run.folder, STOPPED, num_steps, by=training.stop.signal.name)
    else:
        by = "max_steps" if num_steps == run.run_file.max_steps else STOP_AT_REWARD
        note(run.folder, FINISHED, num_steps, by=by)


@contextmanager
def _failing_as_a_run_that_had_begun(peers: Peers) -> Iterator[None]:
    """Give every failure the exit code of a run that had begun, and let it through."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        peers.noticed.set()
        if lacks_memory(error):
            out_of_memory = as_our_error(error)
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
