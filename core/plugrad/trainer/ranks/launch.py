"""Start the ranks of a run on this machine, with PyTorch's elastic launcher, which Accelerate's uses too."""

from __future__ import annotations

import logging
import os
import resource
import signal
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from plugrad.errors import RunFileError, TrainingError
from plugrad.launcher_watch import LAUNCH_FOLDER, LAUNCHER
from plugrad.processes import PYTHON, environment, how_it_ended
from plugrad.trainer.ranks.rank_file import LastSign, last_sign
from plugrad.trainer.ranks.second_signal import killing_after_second_signal

STEP_AND_SAVE_S = 24 * 3600
"""After Ctrl-C the ranks finish their step and save; a second Ctrl-C ends them at once."""

MAY_PASS = "may_pass"
"""The file that a rank leaves in the launcher's folder where its error may pass."""
SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1")
"""Passed on to the ranks, unless this process ignores them, as under nohup. SIGUSR1 is how Slurm warns."""

FILES, FILES_PER_PROCESS = 32, 16
OUT_OF_MEMORY = "The usual reason is that memory ran out: lower tokens_per_micro_batch, or start fewer processes."
FAULT = "Unless somebody sent that signal, compiled code crashed: the last output of the rank may show where."
ENDED_BY_PLUGIN = (
    "A plugin cannot end a run: where it calls os._exit or the like, as compiled code or a thread of its own may, too, let "
    "it raise an ordinary exception."
)


class Ended(NamedTuple):
    """How the ranks ended, where they could say so."""

    exit_code: int
    may_pass: bool
    """Whether a rank said that the run may succeed if it is started again."""


def launch(arguments: Sequence[str], num_processes: int) -> Ended:
    """Run `plugrad ARGUMENTS` in `num_processes` connected processes; return how they ended.

    Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP are passed on to all of them; the exit code is then 128 plus the signal's number.

    Raises:
        RunFileError: there are fewer devices.
        TrainingError: a process was killed, or a plugin ended it. Its `exit_code` says whether training had begun.
    """
    _check_devices(num_processes)
    _check_open_files(num_processes)
    # A rank that fails reports it by itself, and better.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    # Otherwise every rank takes all cores, and the ranks slow each other down.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
    # The ranks inherit this process's environment.
    os.environ.update(environment())
    command = [*PYTHON, "-m", "plugrad", *arguments]
    with TemporaryDirectory(prefix="plugrad-launch-") as folder:
        # The ranks inherit this, too.
        os.environ[LAUNCH_FOLDER], os.environ[LAUNCHER] = folder, str(os.getpid())
        failures: Mapping[int, ProcessFailure] = {}
        try:
            with killing_after_second_signal(Path(folder), num_processes):
                elastic_launch(_config(num_processes, folder), command[0])(*command[1:])
        except ChildFailedError as error:
            failures = error.failures
        except SignalException as stopped:
            return Ended(128 + stopped.sigval, may_pass=False)
        finally:
            del os.environ[LAUNCH_FOLDER], os.environ[LAUNCHER]
        signs = [last_sign(Path(folder), rank) for rank in range(num_processes)]
        return Ended(exit_code_of(failures, signs), (Path(folder) / MAY_PASS).exists())


def _config(num_processes: int, folder: str) -> LaunchConfig:
    noted = [name for name in SIGNALS if signal.getsignal(signal.Signals[name]) is not signal.SIG_IGN]
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        logs_specs=DefaultLogsSpecs(log_dir=folder),
        max_restarts=0,
        monitor_interval=0.1,
        shutdown_timeout=STEP_AND_SAVE_S,
    )
    # PyTorch 2.6 has no such field. Its launcher ends at SIGUSR1, and the ranks with it.
    config.signals_to_handle = ",".join(noted)
    return config


def _check_devices(num_processes: int) -> None:
    available = torch.accelerator.device_count() if torch.accelerator.is_available() else num_processes
    if num_processes > available:
        raise RunFileError(
            f"--num-processes is {num_processes}, but this machine has {available} device{'s' * (available != 1)}: each "
            "process needs its own. For several machines, use accelerate launch -m plugrad train."
        )


def _check_open_files(num_processes: int) -> None:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES + FILES_PER_PROCESS * num_processes
    # With too few, the rendezvous waits for connections that cannot be opened.
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        raise RunFileError(
            f"--num-processes is {num_processes}, which takes about {needed} open files, and a process may have {allowed}: "
            "raise the limit with `ulimit -n 4096`."
        )


def exit_code_of(failures: Mapping[int, ProcessFailure], signs: Sequence[LastSign | None]) -> int:
    """Return the exit code of the rank that failed first, not of those that stopped because of it; 0 if none has failed.

    Args:
        failures: by rank, how the processes ended that did not end with 0.
        signs: by rank, what its file says, where it has one.

    Raises:
        TrainingError: that rank has told no error itself.
    """
    # The launcher takes an end with 0 for success. No rank ends so because of another's failure: it comes first.
    silent = [rank for rank, sign in enumerate(signs) if sign and not sign.has_left and rank not in failures]
    if not (silent or failures):
        return 0
    rank = silent[0] if silent else min(failures, key=lambda rank: _order(failures[rank], signs[rank]))
    code, sign = 0 if silent else failures[rank].exitcode, signs[rank]
    if code > 0 and (sign is None or sign.has_left):
        return code
    process = failures[rank].pid if rank in failures else sign and sign.process
    error = TrainingError(f"rank {rank} (process {process}) {_end(code, sign)}")
    error.exit_code = 1 if any(each and each.has_begun for each in signs) else TrainingError.exit_code
    error.may_pass = code < 0
    raise error


def _end(code: int, sign: LastSign | None) -> str:
    ended, where = how_it_ended(code), sign.where if sign else ""
    if code < 0:
        return f"was killed by {ended}{where}. {OUT_OF_MEMORY if ended == signal.SIGKILL.name else FAULT}"
    return f"ended{where} with {ended} and without an error. {ENDED_BY_PLUGIN}"


def _order(failure: ProcessFailure, sign: LastSign | None) -> tuple[int, bool, bool, int]:
    # Times are whole seconds. Within one second the launcher's own SIGTERM comes last, and a rank that ended without a
    # word, or was killed, comes before the ranks that lost contact with it.
    has_left = sign is None or sign.has_left
    return failure.timestamp, failure.exitcode == -signal.SIGTERM, has_left, failure.exitcode
