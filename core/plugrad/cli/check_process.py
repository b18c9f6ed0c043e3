"""Run `plugrad check` in a process of its own. A component that ends it, crashes or hangs has failed the check that ran.

A folder holds the arguments, and how far the checks are.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.text import Text

from plugrad.cli.check_table import Line, print_lines
from plugrad.errors import PluginError
from plugrad.processes import PYTHON, environment_with_own_path, how_it_ended

ARGUMENTS, CURRENT, FINISHED, ENDED, RAISED, STACK = "arguments.json", "current.json", "finished", "ended", "raised", "stack"
OUTPUT, ERRORS = "output", "errors"
POLL_INTERVAL_S = 0.05
PATIENCE_S = 2.0
"""How long a hanging process has for writing its stack."""
FAILED = 1
INTERRUPTED = 130
FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
OURS = re.compile(r"[/\\](plugrad|torch|site-packages|python3\.\d+|importlib)[/\\]|<frozen")
_folder: list[Path] = []
"""Where this process writes how far it is; empty in a process that does not run the checks."""


def run_checks_here(folder: Path) -> None:
    """Say that this process is the one in which the component runs, and where it notes how far it is."""
    _folder.append(folder)


def runs_checks() -> bool:
    """Return whether this process is the one in which the component runs."""
    return bool(_folder)


def note_check(name: str, statement: str) -> None:
    """Note that a check starts."""
    if _folder:
        write_whole(_folder[0] / CURRENT, json.dumps([name, statement]))


def note_finished(line: Line) -> None:
    """Note a finished check."""
    if _folder:
        with (_folder[0] / FINISHED).open("a", encoding="utf-8") as file:
            file.write(json.dumps(vars(line)) + "\n")


def _finished(folder: Path) -> list[Line]:
    """Return the checks that finished. A last line may be cut."""
    file = folder / FINISHED
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [Line(**json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def run_in_a_process(arguments: Mapping[str, Any], limit_s: float, console: Console) -> int:
    """Run the command with these arguments in a process, show its output, and return its exit code.

    Args:
        arguments: of `check`.
        limit_s: the most seconds for one check, and for importing the component.
        console: shows the failure of a check that the process did not survive.

    Raises:
        PluginError: the process ended or hung before the first check.
    """
    with TemporaryDirectory(prefix="plugrad-check-") as name:
        folder = Path(name)
        (folder / ARGUMENTS).write_text(json.dumps(arguments), encoding="utf-8")
        watched = _Watched(folder, limit_s)
        try:
            with _started(folder, inherits=console.is_terminal) as process:
                end = watched.wait(process)
        except KeyboardInterrupt:
            what = f"the check {watched.current[0]!r}" if watched.current else "the import of the component"
            console.print(f"Interrupted during {what}.")
            return INTERRUPTED
        finally:
            _show_output(folder)
        if end is None:
            return int((folder / ENDED).read_text())
        if watched.current is None:
            raise PluginError(f"{arguments['reference']!r} cannot be imported: {end}.")
        finished = _finished(folder)
        if finished:
            print_lines(finished, console)
            console.print()
        _print_failure(*watched.current, end, finished, console)
        return FAILED


@dataclass
class _Watched:
    """A process that runs checks, as it is seen from outside."""

    folder: Path
    limit_s: float
    current: tuple[str, str] | None = None
    """The check that runs: its name and statement."""

    def wait(self, process: subprocess.Popen[bytes]) -> str | None:
        """Wait for the process. Return why it did not get to its end; None if it did."""
        since = time.monotonic()
        while process.poll() is None:
            time.sleep(POLL_INTERVAL_S)
            before = self.current
            self._look()
            if self.current != before:
                since = time.monotonic()
            if time.monotonic() - since > self.limit_s:
                return f"it did not return within {self.limit_s:g} s (--check-timeout-s){self._where_it_hangs(process)}"
        self._look()
        if (self.folder / ENDED).exists():
            return None
        if (self.folder / RAISED).exists():
            return (self.folder / RAISED).read_text(encoding="utf-8") + self._where()
        return f"it ended the process with {how_it_ended(process.returncode)}{self._where()}"

    def _look(self) -> None:
        if (self.folder / CURRENT).exists():
            name, statement = json.loads((self.folder / CURRENT).read_text(encoding="utf-8"))
            self.current = (name, statement)

    def _where_it_hangs(self, process: subprocess.Popen[bytes]) -> str:
        if not hasattr(faulthandler, "register"):
            return ""
        process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + PATIENCE_S
        while not self._where() and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)
        return self._where()

    def _where(self) -> str:
        """Return file and line of the innermost frame that is neither plugrad's nor a library's, from the stack written."""
        stack = (self.folder / STACK).read_text(encoding="utf-8", errors="replace") if (self.folder / STACK).exists() else ""
        frames = [match for match in FRAME.finditer(stack) if not OURS.search(match["file"])]
        return f", at {frames[0]['file']}, line {frames[0]['line']}" if frames else ""


@contextmanager
def _started(folder: Path, *, inherits: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Start the process; at the end, kill it with everything that it started."""
    with (folder / OUTPUT).open("wb") as output, (folder / ERRORS).open("wb") as errors:
        process = subprocess.Popen(
            [*PYTHON, "-m", "plugrad.cli.check_worker", str(folder), str(os.getpid())],
            env=environment_with_own_path(),
            stdin=subprocess.DEVNULL,
            stdout=None if inherits else output,
            stderr=None if inherits else errors,
            # Ctrl-C in the terminal goes to this process alone, so an interrupt in the other is the component's.
            start_new_session=True,
        )
        try:
            yield process
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                process.kill()
            process.wait()


def _show_output(folder: Path) -> None:
    for name, stream in ((OUTPUT, sys.stdout), (ERRORS, sys.stderr)):
        stream.write((folder / name).read_text(encoding="utf-8", errors="replace"))


def _print_failure(name: str, statement: str, end: str, finished: list[Line], console: Console) -> None:
    counts = Counter([*(line.word for line in finished), "failed"])
    summary = ", ".join(f"{number} {word}" for word, number in counts.items())
    console.print(Text(name, style="bold red"), Text(f" {statement}"), soft_wrap=True)
    console.print(f"  seen {end}", soft_wrap=True)
    console.print("  why  A run would end there, without a word and without its model.", soft_wrap=True)
    console.print("  fix  Raise an exception instead of ending the process, and give every wait a limit.", soft_wrap=True)
    console.print(f"\n{summary}; the checks after it were not run", soft_wrap=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file that a reader sees whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
