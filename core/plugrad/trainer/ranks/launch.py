"""Start the ranks of a run on this machine, with PyTorch's elastic launcher, which Accelerate's uses too."""

from __future__ import annotations

import logging
import os
import resource
import signal
import uuid
from collections.abc import Sequence
from tempfile import TemporaryDirectory

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from plugrad.errors import RunFileError, TrainingError
from plugrad.processes import PYTHON, environment, how_it_ended

STEP_AND_SAVE_S = 24 * 3600
"""After Ctrl-C the ranks finish their step and save; a second Ctrl-C ends them at once."""

FILES, FILES_PER_PROCESS = 32, 16
OUT_OF_MEMORY = "The usual reason is that memory ran out: lower tokens_per_micro_batch, or start fewer processes."
FAULT = "Unless somebody sent that signal, compiled code crashed: the last output of the rank may show where."


def launch(arguments: Sequence[str], num_processes: int) -> int:
    """Run `plugrad ARGUMENTS` in `num_processes` connected processes; return the exit code.

    Ctrl-C and SIGTERM are passed on to all of them; the exit code is then 128 plus the signal's number.

    Raises:
        RunFileError: there are fewer devices.
        TrainingError: the system killed a process.
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
        try:
            elastic_launch(_config(num_processes, folder), command[0])(*command[1:])
        except ChildFailedError as error:
            return _exit_code(error)
        except SignalException as stopped:
            return 128 + stopped.sigval
    return 0


def _config(num_processes: int, folder: str) -> LaunchConfig:
    return LaunchConfig(
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


def _exit_code(error: ChildFailedError) -> int:
    """Return the exit code of the rank that failed first, not of those that stopped because of it."""
    rank, first = min(error.failures.items(), key=lambda item: _order(item[1]))
    if first.exitcode > 0:
        return first.exitcode
    ended_by = how_it_ended(first.exitcode)
    raise TrainingError(
        f"rank {rank} (process {first.pid}) was killed by {ended_by}. "
        + (OUT_OF_MEMORY if ended_by == signal.SIGKILL.name else FAULT)
    )


def _order(failure: ProcessFailure) -> tuple[int, bool, int]:
    # Times are whole seconds. Within one second the launcher's own SIGTERM comes last, and a rank that was killed comes
    # before the ranks that lost contact with it.
    return failure.timestamp, failure.exitcode == -signal.SIGTERM, failure.exitcode
