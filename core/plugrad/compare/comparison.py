"""A comparison from its options to its numbers: check every arm, run what is missing, write down what came of it."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plugrad.compare.arms import Arm, arms_of, baseline_of
from plugrad.compare.checking import Checked, check, refuse, refuse_twins, said
from plugrad.compare.comparison_folder import ComparisonFolder
from plugrad.compare.planned_run import PlannedRun
from plugrad.compare.progress import Progress
from plugrad.compare.progress_display import Display
from plugrad.compare.report import Report
from plugrad.compare.run_files import Base, LeftOut, notices_of
from plugrad.compare.run_process import run_to_its_end
from plugrad.config.override import Override
from plugrad.config.reading import read_tables
from plugrad.config.run_file import RunFile
from plugrad.errors import PlugradError, RunFileError, TrainingError, did_you_mean
from plugrad.registry.scan import scan

logger = logging.getLogger("plugrad")


@dataclass(frozen=True)
class Asked:
    """What a comparison is asked for."""

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
    """What is to be run: every arm can be."""

    arms: list[Arm]
    checked: dict[str, Checked]
    seeds: list[int]
    baseline: str
    folder: ComparisonFolder


def plan(asked: Asked) -> Plan:
    """Check everything that can be checked before the first run.

    Raises:
        RunFileError: an option does not read as it must, or an arm cannot be run; names every such arm.
    """
    tables = read_tables(asked.run_file)
    for override in asked.overrides:
        Override(override).apply(tables)
    arms = arms_of(asked.varied, asked.written, asked.baseline)
    baseline = baseline_of(arms, asked.baseline)
    seeds = seeds_of(asked.seeds, first=tables.get("seed", 0))
    for name in asked.rerun:
        _check_is_an_arm(name, arms)
    checked = _checked(Base(asked.run_file, tables, scan()), arms, asked.num_processes or 1)
    path = asked.output_dir or Path("runs") / f"compare-{asked.run_file.stem}"
    return Plan(arms, checked, seeds, baseline.name, ComparisonFolder(path.expanduser().resolve()))


@dataclass(frozen=True)
class Ended:
    """Where a comparison is when nothing runs any more."""

    report: Report
    progress: Progress
    signal: int | None
    """That interrupted it; None where there is nothing left to run."""


def run(asked: Asked, plan: Plan, show: Callable[[Report, Progress], Display]) -> Ended:
    """Run what is missing, and write down every run that ends at once. A signal ends the run that is going on.

    Raises:
        RunFileError: the folder holds another comparison, or cannot be written.
        TrainingError: it cannot be written any more.
    """
    with plan.folder.locked() as lock:
        runs, report = _open(asked, plan)
        progress = Progress(runs)
        display = show(report, progress)
        try:
            for each in runs:
                if not each.is_finished:
                    _run(each, asked.num_processes, lock, progress, display)
                    report.write()
        except KeyboardInterrupt as interrupt:
            return Ended(report, progress, int(interrupt.args[0]) if interrupt.args else signal.SIGINT)
        except OSError as error:
            raise TrainingError(
                f"{plan.folder.path} cannot be written: {error}. Make room; the same command then goes on from here."
            ) from error
        finally:
            display.close()
    return Ended(report, progress, None)


def seeds_of(text: str, first: object) -> list[int]:
    """Return the seeds that `--seeds` says: how many, from the run file's on, or which, with commas.

    Raises:
        RunFileError: it says neither.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [int(part) for part in parts if part or len(parts) == 1]
    except ValueError:
        numbers = []
    if "," in text and len(set(numbers)) == len(numbers) > 0:
        return numbers
    if "," not in text and numbers and numbers[0] > 0 and isinstance(first, int):
        return list(range(first, first + numbers[0]))
    raise RunFileError(f"--seeds {text!r}: write how many, as in --seeds 3, or which, each once, as in --seeds 0,5,7.")


def _checked(base: Base, arms: Sequence[Arm], num_processes: int) -> dict[str, Checked]:
    run_files: dict[str, RunFile] = {}
    left_out: dict[str, list[LeftOut]] = {}
    complaints: dict[str, str] = {}
    for arm in arms:
        try:
            run_files[arm.name], left_out[arm.name] = base.of_arm(arm)
        except PlugradError as error:
            complaints[arm.name] = said(error)
    verdicts = check(run_files, num_processes)
    refuse({arm.name: found for arm in arms if (found := (complaints | verdicts.complaints).get(arm.name))}, len(arms))
    refuse_twins(verdicts.checked)
    for notice in notices_of(left_out):
        logger.info("%s", notice)
    return verdicts.checked


def _open(asked: Asked, plan: Plan) -> tuple[list[PlannedRun], Report]:
    """Make the folder ready: a comparison that goes on keeps what it has."""
    folder, runs = plan.folder, plan.folder.runs(plan.arms, plan.checked, plan.seeds)
    earlier = folder.earlier_arms()
    again = [arm for arm in plan.arms if {arm.name, arm.folder} & set(asked.rerun)]
    folder.remove(earlier if asked.overwrite else {arm.name: arm.folder for arm in again if arm.name in earlier})
    if not asked.overwrite:
        folder.check_it_goes_on(plan.arms, plan.checked, runs)
    named = {arm.name for arm in plan.arms}
    kept = {} if asked.overwrite else {name: path for name, path in earlier.items() if name not in named}
    if kept:
        logger.info("Arms that are there and not named now are kept, and not shown: %s.", ", ".join(kept))
    folder.write_run_files(plan.arms, plan.checked)
    report = Report(folder.path, asked.run_file, plan.arms, runs, plan.baseline, kept)
    report.write()
    return runs, report


def _run(run: PlannedRun, num_processes: int | None, lock: int | None, progress: Progress, display: Display) -> None:
    progress.note_start(run)
    display.start(run)

    def look() -> None:
        progress.note_step(run)
        display.look(run)

    run_to_its_end(run, num_processes, lock, look)
    progress.note_end(run)
    display.end(run)


def _check_is_an_arm(name: str, arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    if name not in names and name not in [arm.folder for arm in arms]:
        raise RunFileError(f"--rerun {name!r}: no arm is called that.{did_you_mean(name, names)} Arms: {', '.join(names)}.")
