"""Whether so many processes can share the work of a run file."""

from __future__ import annotations

from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError


def check_shares(run_file: RunFile, num_processes: int) -> None:
    """Check that every process gets equally many whole groups, and a place in an engine; `updates_per_batch` divides them.

    Raises:
        RunFileError: with the nearest numbers that would do.
    """
    _check_shares_of_engines(run_file, num_processes)
    prompts, updates = run_file.rollout.prompts_per_step, run_file.updates_per_batch
    unit = num_processes * updates
    if prompts % unit == 0:
        return
    below, above = prompts // unit * unit, (prompts // unit + 1) * unit
    nearest = f"{below} or {above}" if below else str(above)
    counts = [count for count in range(1, prompts // updates + 1) if prompts % (count * updates) == 0]
    fewer = max((count for count in counts if count < num_processes), default=None)
    more = min((count for count in counts if count > num_processes), default=None)
    processes = " or ".join(str(count) for count in (fewer, more) if count is not None)
    each = f", and updates_per_batch = {updates} must divide the share of each" if updates > 1 else ""
    raise RunFileError(
        f"rollout.prompts_per_step is {prompts}, which {num_processes} processes cannot share equally{each}. Set it to "
        f"{nearest}, or train with {processes} process{'es' if processes != '1' else ''}."
    )


def _check_shares_of_engines(run_file: RunFile, num_processes: int) -> None:
    size, key = run_file.rollout.ranks_per_engine, run_file.rollout.engine_kind.ranks_per_engine
    if num_processes % size:
        processes = f"{num_processes} process{'es' if num_processes > 1 else ''}"
        raise RunFileError(
            f"rollout.{key} is {size}, and {processes} cannot share engines of {size} each: "
            f"train with --num-processes {size}, or a multiple of it."
        )
