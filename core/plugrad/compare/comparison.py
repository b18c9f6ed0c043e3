"""A comparison from its options to its numbers: check every arm, run what is missing, and write the results."""

from __future__ import annotations

import logging
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from plugrad.compare.arms import Arm, arms_of, baseline_of
from plugrad.compare.checking import CheckedArm, check, message_of, refuse_broken, refuse_twins
from plugrad.compare.comparison_folder import ComparisonFolder
from plugrad.compare.planned_run import PlannedRun
from plugrad.compare.progress import Progress
from plugrad.compare.progress_display import ProgressDisplay
from plugrad.compare.report import Report
from plugrad.compare.run_files import BaseRunFile, LeftOut, notices_of
from plugrad.compare.run_process import run_in_process
from plugrad.config.override import Override
from plugrad.config.reading import read_tables
from plugrad.config.run_file import RunFile
from plugrad.config.tables.number_types import Seed
from plugrad.errors import PlugradError, RunFileError, TrainingError, did_you_mean
from plugrad.paths import absolute
from plugrad.registry.scan import scan

MAX_SEEDS = 10_000
NUMBER = re.compile(r"[+-]?[0-9]{1,4000}")
SEEDS = TypeAdapter(list[Seed])

logger = logging.getLogger("plugrad")


@dataclass(frozen=True)
class ComparisonOptions:
    """The options of `plugrad compare`."""

    run_file: Path
    overrides: Sequence[str] = ()
    varied: Sequence[str] = ()
    written: Sequence[str] = ()
    seeds: str = "3"
    baseline: str | None = None
    output_dir: Path | None = None
    num_processes: int | None = None
    overwrite: bool = False
    rerun: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """What to run. Every arm has passed the checks."""

    arms: list[Arm]
    checked: dict[str, CheckedArm]
    seeds: list[int]
    baseline: str
    folder: ComparisonFolder


def plan_comparison(options: ComparisonOptions) -> Plan:
    """Check everything that can be checked before the first run.

    Raises:
        RunFileError: an option is malformed, or arms cannot be run. The message names every such arm.
    """
    tables = read_tables(options.run_file)
    for override in options.overrides:
        Override(override).apply(tables)
    arms = arms_of(options.varied, options.written, options.baseline)
    baseline = baseline_of(arms, options.baseline)
    seeds = seeds_of(options.seeds, first=tables.get("seed", 0))
    for name in options.rerun:
        _check_is_an_arm(name, arms)
    checked = _check_arms(BaseRunFile(options.run_file, tables, scan()), arms, options.num_processes or 1)
    path = options.output_dir or Path("runs") / f"compare-{options.run_file.stem}"
    return Plan(arms, checked, seeds, baseline.name, ComparisonFolder(absolute(path)))


@dataclass(frozen=True)
class ComparisonResult:
    """The state of a comparison once nothing runs any more."""

    report: Report
    progress: Progress
    signal: int | None
    """The signal that interrupted it; None if nothing is left to run."""


def run_comparison(
    options: ComparisonOptions, plan: Plan, open_display: Callable[[Report, Progress], ProgressDisplay]
) -> ComparisonResult:
    """Run what is missing, and update the report after each run. A signal stops the current run after its step.

    Raises:
        RunFileError: the folder holds another comparison, or cannot be written.
        TrainingError: the folder can no longer be written.
    """
    with plan.folder.locked() as lock:
        try:
            runs, report = _open_folder(options, plan)
        except OSError as error:
            raise plan.folder.not_writable(error) from error
        progress = Progress(runs)
        display = open_display(report, progress)
        try:
            for each in runs:
                if not each.is_finished:
                    _run(each, options.num_processes, lock, progress, display)
                    report.write()
        except KeyboardInterrupt as interrupt:
            return ComparisonResult(report, progress, int(interrupt.args[0]) if interrupt.args else signal.SIGINT)
        except OSError as error:
            raise TrainingError(
                f"{plan.folder.path} cannot be written: {error}. Free some space and run the same command again."
            ) from error
        finally:
            display.close()
    return ComparisonResult(report, progress, None)


def seeds_of(text: str, first: object) -> list[int]:
    """Return the seeds for `--seeds`: a number of seeds from `first` on, or the listed ones if there is a comma.

    Raises:
        RunFileError: the text is neither, or a seed is none that a run file takes.
    """
    parts = [part.strip() for part in text.split(",")]
    written = [part for part in parts if part or len(parts) == 1]
    numbers = [int(part) for part in written if NUMBER.fullmatch(part)]
    is_list, is_right = "," in text, 0 < len(numbers) == len(written)
    if is_right and (len(numbers) if is_list else numbers[0]) > MAX_SEEDS:
        raise RunFileError(
            f"--seeds {text[:60]}: a comparison has {MAX_SEEDS} seeds at most, since its runs train one by one."
        )
    if is_right and is_list and len(set(numbers)) == len(numbers):
        return _checked_seeds(text, numbers)
    if is_right and not is_list and numbers[0] > 0:
        # A seed of the run file that is none is the run file's fault, and is told with the others.
        start = first if isinstance(first, int) and first >= 0 else 0
        return _checked_seeds(text, list(range(start, start + numbers[0])))
    raise RunFileError(
        f"--seeds {text[:60]!r}: write how many, as in --seeds 3, or list them, each once, as in --seeds 0,5,7."
    )


def _checked_seeds(text: str, numbers: list[int]) -> list[int]:
    try:
        return SEEDS.validate_python(numbers)
    except ValidationError as error:
        first = error.errors()[0]
        raise RunFileError(f"--seeds {text[:60]}: seed: {first['msg']}. It is {first['input']}.") from error


def _check_arms(base: BaseRunFile, arms: Sequence[Arm], num_processes: int) -> dict[str, CheckedArm]:
    run_files: dict[str, RunFile] = {}
    left_out: dict[str, list[LeftOut]] = {}
    complaints: dict[str, str] = {}
    for arm in arms:
        try:
            run_files[arm.name], left_out[arm.name] = base.of_arm(arm)
        except PlugradError as error:
            complaints[arm.name] = message_of(error)
    results = check(run_files, num_processes)
    complaints |= results.complaints
    refuse_broken({arm.name: complaints[arm.name] for arm in arms if arm.name in complaints}, len(arms))
    refuse_twins(results.checked)
    for notice in notices_of(left_out):
        logger.info("%s", notice)
    return results.checked


def _open_folder(options: ComparisonOptions, plan: Plan) -> tuple[list[PlannedRun], Report]:
    """Prepare the folder. A comparison that continues keeps its finished runs."""
    folder, runs = plan.folder, plan.folder.runs(plan.arms, plan.checked, plan.seeds)
    earlier = folder.earlier_arms()
    again = [arm for arm in plan.arms if {arm.name, arm.folder} & set(options.rerun)]
    folder.remove(earlier if options.overwrite else {arm.name: arm.folder for arm in again if arm.name in earlier})
    for run in runs:
        if run.is_damaged and not options.overwrite:
            logger.warning("%s has ended, but its record has changed since. It is run again.", run.folder)
    if not options.overwrite:
        folder.check_unchanged(plan.arms, plan.checked, runs)
    named = {arm.name for arm in plan.arms}
    kept = {} if options.overwrite else {name: path for name, path in earlier.items() if name not in named}
    if kept:
        logger.info("Kept but not shown, because this command does not name them: %s.", ", ".join(kept))
    folder.write_run_files(plan.arms, plan.checked)
    report = Report(folder.path, options.run_file, plan.arms, runs, plan.baseline, kept)
    report.write()
    return runs, report


def _run(run: PlannedRun, num_processes: int | None, lock: int | None, progress: Progress, display: ProgressDisplay) -> None:
    progress.note_start(run)
    display.start(run)

    def update() -> None:
        progress.note_step(run)
        display.update(run)

    def stopping() -> None:
        display.close()
        logger.warning(
            "Stopping: %s, seed %d, finishes its step and writes a checkpoint. Ctrl-C again stops at once.",
            run.arm,
            run.seed,
        )

    run_in_process(run, num_processes, lock, update, stopping)
    progress.note_end(run)
    display.end(run)


def _check_is_an_arm(name: str, arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    if name not in names and name not in [arm.folder for arm in arms]:
        raise RunFileError(f"--rerun {name!r}: no arm has that name.{did_you_mean(name, names)} Arms: {', '.join(names)}.")
