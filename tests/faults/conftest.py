"""Runs to kill, one that nothing happened to, and the table at the end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from killed_runs import Fork, Process, outcome, write_run_file

KILLS = int(os.environ.get("PLUGRAD_KILLS", "3"))
ALL = "PLUGRAD_KILLS" in os.environ
TABLE = []


def pytest_collection_modifyitems(items):
    """Leave to `nox -s faults` what takes long."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not (ALL or item.get_closest_marker("quick_fault")):
            item.add_marker(pytest.mark.skip(reason="takes long: run `nox -s faults`"))


def pytest_terminal_summary(terminalreporter):
    """Show what was killed."""
    if TABLE:
        columns = "processes", "kills", "while writing", "while pruning", "resumes", "runs", "equal"
        terminalreporter.section("kills")
        for row in (columns, *TABLE):
            terminalreporter.line("  ".join(str(cell).rjust(13) for cell in row))


@pytest.fixture(scope="session")
def num_kills():
    """How many a test has to survive."""
    return KILLS


@pytest.fixture(scope="session")
def table():
    """The rows that are shown at the end."""
    return TABLE


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """Return the outcome of a run that nothing happens to, by its number of processes."""
    found = {}

    def run(num_processes):
        if num_processes not in found:
            folder = tmp_path_factory.mktemp("uninterrupted")
            write_run_file(folder)
            process = start_in(folder)(folder / "whole", num_processes=num_processes)
            assert process.wait() == 0, process.said
            found[num_processes] = outcome(folder / "whole")
        return found[num_processes]

    return run


def start_in(folder):
    def start(run, *arguments, num_processes=1):
        if num_processes == 1:
            return Fork(folder, run, *arguments)
        return Process(folder, run, *arguments, "--num-processes", str(num_processes))

    return start


@pytest.fixture
def start(tmp_path):
    """Start the run in a run folder; it ends with the test at the latest."""
    write_run_file(tmp_path)
    started, start_one = [], start_in(tmp_path)

    def start(*arguments, **options):
        started.append(start_one(*arguments, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def disk(tmp_path):
    """Mount a small disk of its own; return its folder. Its options are those of `mount -o`."""
    mounted = tmp_path / "disk"
    mounted.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mounted)]
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode:
            pytest.skip("only root mounts a disk")
        return mounted

    yield mount
    subprocess.run(["umount", "--lazy", str(mounted)], check=False, capture_output=True)
