"""Check that the prompts of a step divide evenly over the ranks, and the ranks over the engines."""

from __future__ import annotations

from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError

SOUGHT_BELOW = 10_000
"""More processes than this are not proposed."""


def check_shares(run_file: RunFile, num_processes: int) -> None:
    """Check that every process gets the same number of whole groups, a multiple of `updates_per_batch`, and an engine.

    Raises:
        RunFileError: with the nearest numbers that work.
    """
    _check_shares_of_engines(run_file, num_processes)
    prompts, updates = run_file.rollout.prompts_per_step, run_file.updates_per_batch
    unit = num_processes * updates
    if prompts % unit == 0:
        return
    below, above = prompts // unit * unit, (prompts // unit + 1) * unit
    nearest = f"{below} or {above}" if below else str(above)
    fewer = _first_divisor(prompts // updates, range(num_processes - 1, 0, -1))
    more = _first_divisor(prompts // updates, range(num_processes + 1, SOUGHT_BELOW))
    processes = " or ".join(str(count) for count in (fewer, more) if count is not None)
    each = f" (updates_per_batch = {updates} must divide each share)" if updates > 1 else ""
    raise RunFileError(
        f"rollout.prompts_per_step is {prompts}, which does not divide evenly over {num_processes} processes{each}. Set it "
        f"to {nearest}, or train with {processes} process{'es' if processes != '1' else ''}."
    )


def _first_divisor(number: int, candidates: range) -> int | None:
    return next((count for count in candidates if number % count == 0), None)


def _check_shares_of_engines(run_file: RunFile, num_processes: int) -> None:
    size, key = run_file.rollout.ranks_per_engine, run_file.rollout.engine_kind.ranks_per_engine
    if num_processes % size:
        processes = f"{num_processes} process{'es' if num_processes > 1 else ''}"
        raise RunFileError(
            f"rollout.{key} is {size}, and {processes} cannot form groups of {size}: "
            f"train with --num-processes {size} or a multiple of it."
        )
