"""What else befalls a run and its checkpoints: signals, full disks, spoiled files, folders that vanish."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from killed_runs import STEPS, checkpoints_in, kill, limit_files, newest_in, outcome

SMALL = 80_000
"""Bytes: less than the weights of the model take, and more than its records."""


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def some_steps(start, run):
    """Start the run and wait for its first checkpoints."""

    def begin(*arguments, steps=3, **options):
        process = start(run, *arguments, "--resume", **options)
        assert process.wait_for(lambda: newest_in(run) >= f"step_{steps:06d}"), process.said
        return process

    return begin


@pytest.fixture
def assert_goes_on(start, run, uninterrupted):
    """Go on with the run, which then ends as one that nothing happened to."""

    def go_on():
        process = start(run, "--resume")
        assert process.wait() == 0, process.said
        assert outcome(run) == uninterrupted(1)
        return process.said

    return go_on


@pytest.mark.quick_fault
def test_sigterm_costs_nothing(some_steps, assert_goes_on, run):
    process = some_steps()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 143, process.said
    done = len((run / "metrics.jsonl").read_text().splitlines())
    assert (newest_in(run), checkpoints_in(run)[1]) == (f"step_{done:06d}", [])
    assert_goes_on()


def test_a_rank_that_is_killed_is_started_again(some_steps, run, uninterrupted):
    wanted = uninterrupted(2)
    process = some_steps("--max-restarts", "2", num_processes=2)
    kill(process.ranks[-1])
    assert process.wait() == 0, process.said
    assert "Restart 1 of 2, after step" in process.said
    events = [json.loads(line)["event"] for line in (run / "history.jsonl").read_text().splitlines()]
    assert events == ["started", "restarted", "resumed", "finished"]
    assert outcome(run) == wanted


def assert_survives_a_full_disk(process, run, fill, make_room, wanted):
    fill()
    assert process.wait_for(lambda: "is not written" in process.said), process.said
    make_room()
    before = newest_in(run)
    assert process.wait_for(lambda: newest_in(run) > before), process.said
    assert process.wait() == 0, process.said
    assert outcome(run) == wanted
    assert checkpoints_in(run) == ([f"step_{STEPS - 1:06d}", f"step_{STEPS:06d}"], [])


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(start, run, uninterrupted, disk):
    wanted, small = uninterrupted(1), disk("size=4m")
    process = start(run, "--resume")
    assert process.wait_for((run / "plugins.json").exists)
    (run / "checkpoints").symlink_to(small)
    assert process.wait_for(lambda: newest_in(run)), process.said
    filler = small / "filler"

    def fill():
        with filler.open("wb", buffering=0) as file:
            while "is not written" not in process.said:
                try:
                    file.write(bytes(4096))
                except OSError:
                    assert process.poll() is None, process.said

    assert_survives_a_full_disk(process, run, fill, filler.unlink, wanted)


def test_a_limit_on_the_size_of_files_does_so_too(some_steps, run, uninterrupted):
    wanted, process = uninterrupted(1), some_steps()
    assert_survives_a_full_disk(
        process, run, lambda: limit_files(process.pid, SMALL), lambda: limit_files(process.pid), wanted
    )


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


SPOILS = {"one flipped bit": flip, "cut off": lambda file: os.truncate(file, file.stat().st_size // 2), "gone": Path.unlink}


@pytest.mark.parametrize("how", SPOILS)
def test_a_spoiled_checkpoint_costs_the_steps_since_the_one_before(some_steps, assert_goes_on, run, how):
    process = some_steps()
    process.kill()
    newest = run / "checkpoints" / newest_in(run)
    SPOILS[how](next((newest / "optimizer").glob("*.safetensors")))
    said = assert_goes_on()
    assert f"The checkpoint {newest} is passed over: optimizer/" in " ".join(said.split())


def test_a_folder_of_checkpoints_that_vanishes_costs_those_checkpoints(some_steps, run, uninterrupted):
    wanted, process = uninterrupted(1), some_steps()
    (run / "checkpoints").rename(run.with_name("away"))
    assert process.wait_for(lambda: newest_in(run)), process.said
    assert process.wait() == 0, process.said
    assert outcome(run) == wanted
    assert newest_in(run) == f"step_{STEPS:06d}"


@pytest.mark.quick_fault
def test_a_run_folder_that_vanishes_ends_the_run(some_steps, run, assert_goes_on):
    process = some_steps()
    run.rename(run.with_name("away"))
    assert process.wait() == 1, process.said
    assert "metrics.jsonl cannot be written" in process.said
    assert "Traceback" not in process.said
    # What could be saved of the model is; nothing else is made again.
    assert not run.exists() or {path.name for path in run.iterdir()} <= {"model"}
    shutil.rmtree(run, ignore_errors=True)
    run.with_name("away").rename(run)
    assert_goes_on()


def test_a_second_run_in_the_folder_is_refused(some_steps, start, run, uninterrupted):
    wanted, process = uninterrupted(1), some_steps()
    second = start(run, "--resume")
    assert second.wait() == 2
    assert process.wait() == 0, process.said
    assert outcome(run) == wanted


@pytest.mark.parametrize("is_killed", [False, True])
def test_checkpoints_may_be_on_another_disk(start, some_steps, run, assert_goes_on, is_killed):
    elsewhere = run.with_name("elsewhere")
    process = some_steps()
    process.kill()
    (run / "checkpoints").rename(elsewhere)
    (run / "checkpoints").symlink_to(elsewhere)
    if is_killed:
        some_steps(steps=10).kill()
    assert_goes_on()
    assert (run / "checkpoints").is_symlink()
    assert sorted(path.name for path in elsewhere.iterdir()) == [f"step_{STEPS - 1:06d}", f"step_{STEPS:06d}"]


def test_a_folder_of_checkpoints_that_cannot_be_written_costs_the_checkpoints(start, run, uninterrupted, disk):
    wanted, read_only = uninterrupted(1), disk("ro")
    process = start(run)
    assert process.wait_for((run / "plugins.json").exists)
    (run / "checkpoints").symlink_to(read_only)
    assert process.wait() == 0, process.said
    assert "is not written" in process.said
    assert "Read-only file system" in process.said
    assert "Traceback" not in process.said
    assert outcome(run) == wanted
