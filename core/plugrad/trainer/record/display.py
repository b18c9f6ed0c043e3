"""What a run prints: a live line in a terminal, plain lines elsewhere, and a summary at the end."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from plugrad.diagnosis.diagnosing import found_in, learned_nothing
from plugrad.diagnosis.record_reading import read_records
from plugrad.errors import PlugradError
from plugrad.run import Run
from plugrad.run_result import RunResult
from plugrad.trainer.record.replaced_run import names_in
from plugrad.trainer.record.run_diff import Difference
from plugrad.trainer.record.run_folder import MODEL, OURS
from plugrad.trainer.samples.samples_file import last_of_training
from plugrad.trainer.samples.shown_samples import NUM_SHOWN, num_shown, print_samples

SHOWN = {"reward": "reward", "eval/reward": "held-out", "loss": "loss", "tokens_per_s": "tokens/s"}
SECONDS_BETWEEN_LINES = 2.0
NARROW = 80
MOST_FINDINGS = 3
HEAD = ("WHAT", "THEN", "NOW")


class Display(Protocol):
    """Receives a run's start, steps and end; may show or ignore them."""

    def start(self, run: Run, num_parameters: int) -> None:
        """Begin: the models are loaded."""
        ...

    def show_differences(self, earlier: Path, differences: Sequence[Difference]) -> None:
        """Show how the run differs from the earlier run of `like`; called before the models are loaded."""
        ...

    def step(self, record: Mapping[str, float | int]) -> None:
        """Show the record of a step, as in `metrics.jsonl`."""
        ...

    def samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Show samples of a batch, as in `samples.jsonl`; called for each batch that has some, in training or evaluation."""
        ...

    def close(self) -> None:
        """End; called after an error, too."""
        ...


class LiveDisplay:
    """A progress bar that stays on one line."""

    def __init__(self, console: Console, num_samples: int = NUM_SHOWN) -> None:
        """Show `num_samples` samples of each evaluation."""
        self._console, self._num_samples = console, num_samples
        narrow = console.width < NARROW
        columns: list[ProgressColumn] = [] if narrow else [SpinnerColumn(), BarColumn(bar_width=None)]
        text = TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[numbers]}")
        self._progress = Progress(*columns, text, TimeRemainingColumn(compact=True), console=console, expand=not narrow)
        self._task: TaskID | None = None
        self._latest: dict[str, float | int] = {}

    def show_differences(self, earlier: Path, differences: Sequence[Difference]) -> None:
        """Print what differs."""
        _print_differences(earlier, differences, self._console)

    def start(self, run: Run, num_parameters: int) -> None:
        """Print the first line and show the bar."""
        self._console.print(_headline(run, num_parameters))
        self._progress.start()
        self._task = self._progress.add_task("", total=run.run_file.max_steps, completed=run.first_step, numbers="")

    def step(self, record: Mapping[str, float | int]) -> None:
        """Move the bar. The held-out reward stays until the next evaluation."""
        assert self._task is not None
        self._latest.update(record)
        self._progress.update(self._task, completed=record["step"], numbers=_numbers(self._latest))

    def samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Print those of an evaluation above the bar."""
        _print_evaluated(samples, self._console, self._num_samples)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()


class PlainDisplay:
    """Plain lines for pipes and logs: the first step, the last, and one every few seconds."""

    def __init__(self, console: Console, num_samples: int = 0) -> None:
        """Show `num_samples` samples of each evaluation."""
        self._console, self._num_samples = console, num_samples
        self._started_at = self._printed_at = 0.0
        self._max_steps = self._first_step = 0
        self._may_stop_early = False
        self._latest: dict[str, float | int] = {}

    def show_differences(self, earlier: Path, differences: Sequence[Difference]) -> None:
        """Print what differs."""
        _print_differences(earlier, differences, self._console)

    def start(self, run: Run, num_parameters: int) -> None:
        """Print the first line."""
        self._started_at = time.monotonic()
        self._max_steps, self._first_step = run.run_file.max_steps, run.first_step
        self._may_stop_early = run.run_file.evaluation.stop_at_reward is not None
        self._console.print(_headline(run, num_parameters), soft_wrap=True)

    def step(self, record: Mapping[str, float | int]) -> None:
        """Print a line for the first and the last step, and otherwise if the last line is old enough."""
        now = time.monotonic()
        self._latest.update(record)
        if now - self._printed_at < SECONDS_BETWEEN_LINES and record["step"] not in (self._first_step + 1, self._max_steps):
            return
        self._printed_at = now
        steps = int(record["step"])
        done = steps - self._first_step
        left = (now - self._started_at) / done * (self._max_steps - steps) if done else math.nan
        self._print(_numbers(self._latest), left)

    def samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Print those of an evaluation, if any were asked for."""
        _print_evaluated(samples, self._console, self._num_samples)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _print(self, numbers: str, seconds_left: float) -> None:
        most = "at most " if self._may_stop_early else ""
        minutes, seconds = divmod(round(seconds_left), 60) if seconds_left > 0 else (0, 0)
        left = f"  {most}{minutes}:{seconds:02d} left" if seconds_left > 0 else ""
        self._console.print(f"step {self._latest['step']}/{self._max_steps}  {numbers}{left}", soft_wrap=True)


class Silent:
    """Shows nothing."""

    def show_differences(self, earlier: Path, differences: Sequence[Difference]) -> None:
        """Ignore it."""

    def start(self, run: Run, num_parameters: int) -> None:
        """Ignore it."""

    def step(self, record: Mapping[str, float | int]) -> None:
        """Ignore it."""

    def samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Ignore them."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


def display_for(console: Console, num_samples: int | None = None) -> Display:
    """Return the live display in a terminal, plain lines elsewhere.

    Args:
        console: where to print.
        num_samples: how many samples each table has. Default: three in a terminal, none elsewhere.
    """
    num = num_shown(console, num_samples)
    return LiveDisplay(console, num) if console.is_terminal else PlainDisplay(console, num)


def print_summary(result: RunResult, console: Console, num_samples: int | None = None) -> None:
    """Print the results of a run, its last training samples, and where everything is."""
    print_samples(last_of_training(result.folder), console, num_shown(console, num_samples))
    rows = {
        label: f"{series[0][1]:.3f} -> {series[-1][1]:.3f}"
        for label, series in {
            "reward": result.series("reward"),
            "held-out reward": result.series("eval/reward"),
        }.items()
        if series
    }
    rows |= {
        "steps": f"{result.num_steps} in {result.seconds:.1f} s",
        "model": str(result.model),
        "run folder": f"{result.folder}{_contents(result.folder)}",
    }
    for label, value in rows.items():
        console.print(f"{label:<16} {value}", soft_wrap=True)
    _print_findings(result.folder, console)


def _contents(folder: Path) -> str:
    """Return what a run has written into its folder, in brackets, folders with a slash. The model has its own line."""
    names = [f"{name}{'/' * (folder / name).is_dir()}" for name in names_in(folder, OURS) if name != MODEL]
    return f"  ({', '.join(names)})" if names else ""


def _print_findings(folder: Path, console: Console) -> None:
    """Print what is wrong with a run that learned nothing, in a line or two for each of the first findings."""
    try:
        records = read_records(folder)
        findings = found_in(records) if learned_nothing(records) else []
    except PlugradError:
        # Somebody has moved the folder since: the run is complete all the same.
        return
    for finding in findings[:MOST_FINDINGS]:
        console.print(f"{finding.severity:<16} {finding.title}", soft_wrap=True)
        console.print(f"{'':<16} {_first_sentence(finding.remedy)}", soft_wrap=True)
    if findings:
        more = len(findings) - MOST_FINDINGS
        others = f"{more} more, the numbers behind them" if more > 0 else "The numbers behind this"
        console.print(f"{others}, and all that helps: plugrad diagnose {folder}", soft_wrap=True)


def _first_sentence(text: str) -> str:
    # Not the stop in a name such as optimizer.lr.
    return re.split(r"(?<=\.) ", text, maxsplit=1)[0]


def _print_evaluated(samples: Sequence[Mapping[str, Any]], console: Console, num: int) -> None:
    print_samples([sample for sample in samples if sample["phase"] == "evaluation"], console, num)


def _print_differences(earlier: Path, differences: Sequence[Difference], console: Console) -> None:
    if not differences:
        console.print(f"Nothing differs from {earlier}.", soft_wrap=True)
        return
    things = "one thing" if len(differences) == 1 else f"{len(differences)} things"
    console.print(f"Differs from {earlier} in {things}:", soft_wrap=True)
    rows = [(each.what, _value(each.then), _value(each.now)) for each in differences]
    if console.is_terminal:
        console.print(_table(rows))
        return
    # Whole lines, so that they can be searched with grep.
    rows.insert(0, HEAD)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        console.print(f"  {line}".rstrip(), soft_wrap=True)


def _table(rows: Sequence[tuple[str, str, str]]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 0, 0, 2))
    for column in HEAD:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _value(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)


def _headline(run: Run, num_parameters: int) -> Text:
    file = run.run_file
    losses = " + ".join(table.name for table in file.loss)
    counted = "parameters" if file.model.lora is None else "trained parameters beside a frozen base"
    processes = f"{run.num_processes} process" + ("es" if run.num_processes > 1 else "")
    return Text.assemble(
        (run.folder.name, "bold"),
        f": {num_parameters:,} {counted}, {processes}; environment {file.environment.name}, "
        f"engine {file.rollout.engine}, loss {losses}, advantage {file.selected_advantage.name}",
        f"; going on after step {run.first_step}" if run.first_step else "",
    )


def _numbers(record: Mapping[str, float | int]) -> str:
    shown = [(label, record[name]) for name, label in SHOWN.items() if name in record]
    return "  ".join(f"{label} {value:,.0f}" if label == "tokens/s" else f"{label} {value:.3f}" for label, value in shown)
