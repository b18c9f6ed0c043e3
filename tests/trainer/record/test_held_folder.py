"""The run folder while a run is going: one at a time, and an earlier run stays until the new one has done a step."""

import json
import os
import shutil
import signal
from contextlib import suppress

import pytest

from plugrad import TrainingError
from plugrad.errors import ContractError, RunFileError
from plugrad.folder_lock import FolderLock
from plugrad.trainer.capture.later_captures import CAPTURES
from plugrad.trainer.checkpoints.checkpoint_folder import CHECKPOINTS
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.record.display import Silent
from plugrad.trainer.record.held_folder import held_run_folder
from plugrad.trainer.record.history import HISTORY
from plugrad.trainer.record.replaced_run import MOVING, REMOVING, REPLACED, put_back, set_aside
from plugrad.trainer.record.run_folder import MERGED, OURS, PLUGINS, PROFILES, TRACKING
from plugrad.trainer.train import train

FAILS = """
    import plugrad
    from plugrad import LossOutputs

    def fails(inputs, step: int):
        if inputs.step == step and inputs.trainer_logprobs.requires_grad and "trained" in globals():
            raise ValueError("as asked")
        return LossOutputs(-(inputs.trainer_logprobs * inputs.advantages).sum())

    class Begins:
        @plugrad.hookimpl
        def on_run_start(self):
            globals()["trained"] = True
"""
FAILING_AT = {"extension": [{"name": "fails.py:Begins"}], "loss": {"name": "fails.py:fails"}}


def contents(folder):
    """Return every file of a folder, and what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def held(folder):
    return held_run_folder(folder, Ranks())


def test_a_second_run_is_refused_from_the_first_look_on(run_file, tmp_path):
    folder = tmp_path / "run"
    with held(folder):
        for overwrite in (False, True):
            with pytest.raises(RunFileError, match=rf"another run is going on in .*run \(process {os.getpid()}\)"):
                train(run_file(), overwrite=overwrite, display=Silent())
        assert [path.name for path in folder.iterdir()] == [".lock"]
    assert not folder.exists(), "nothing is left of a run that wrote nothing"


@pytest.fixture
def forked_holder(tmp_path):
    """Fork a process that takes the lock of the run folder and waits; return its number."""
    started = []

    def fork(*, leaves_a_child):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            lock = FolderLock.take(tmp_path / "run")
            waits = leaves_a_child and os.fork()
            os.write(writing, f"{waits or os.getpid()}\n".encode())
            if waits:
                os._exit(0)
            signal.pause()
            lock.let_go()
        started.append(int(os.read(reading, 20).split()[0]))
        if leaves_a_child:
            os.waitpid(child, 0)
        return child

    yield fork
    for process in started:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def test_a_run_that_was_killed_holds_nothing(run_file, tmp_path, forked_holder):
    holder = forked_holder(leaves_a_child=False)
    with pytest.raises(RunFileError, match=rf"another run is going on .* \(process {holder}\)"), held(tmp_path / "run"):
        pass
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert (tmp_path / "run" / ".lock").exists()
    assert train(run_file(max_steps=1), display=Silent()).num_steps == 1
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_process_that_outlives_a_killed_run_is_told_apart(tmp_path, forked_holder):
    """It holds the lock that it inherited."""
    holder = forked_holder(leaves_a_child=True)
    message = rf"was killed \(process {holder}\), and a process that it started is still running"
    with pytest.raises(RunFileError, match=message), held(tmp_path / "run"):
        pass


def test_where_there_are_no_locks_the_run_says_so_and_goes_on(run_file, monkeypatch, caplog):
    def unknown(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unknown)
    assert train(run_file(max_steps=1), display=Silent()).num_steps == 1
    assert "has no locks: start no other run in this folder" in caplog.text


def test_runs_in_one_process_follow_each_other(run_file):
    for overwrite in (False, True):
        assert train(run_file(max_steps=1), overwrite=overwrite, display=Silent()).num_steps == 1


def test_a_run_that_fails_before_its_first_step_is_done_gives_the_earlier_run_back(run, run_file, write, caplog):
    write("fails.py", FAILS)
    folder = run(max_steps=1).folder
    before = contents(folder)
    with pytest.raises(ContractError, match="as asked"):
        run(**{**FAILING_AT, "loss": {"name": "fails.py:fails", "kwargs": {"step": 0}}}, evaluation={"every_steps": 1})
    after = contents(folder)
    # The message names the capture.
    captured = {name for name in after if name.startswith("captures/failed_step_000001")}
    assert captured
    assert {name: text for name, text in after.items() if name not in captured} == before
    assert f"The earlier run in {folder} is back: the new one ended before its first step was done." in caplog.text


def test_a_run_that_has_done_a_step_replaces_the_earlier_one(run, write):
    write("fails.py", FAILS)
    folder = run(max_steps=2).folder
    with pytest.raises(ContractError, match="as asked"):
        run(**{**FAILING_AT, "loss": {"name": "fails.py:fails", "kwargs": {"step": 1}}})
    assert {path.name for path in folder.iterdir()} == {*OURS} - {CHECKPOINTS, TRACKING, PROFILES, MERGED}
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [1]
    assert "fails.py:fails" in (folder / "model" / "run.toml").read_text()


def test_a_run_that_ends_without_a_step_replaces_the_earlier_one(run):
    folder = run(max_steps=2).folder
    assert run(evaluation={"every_steps": 1, "stop_at_reward": 0.0}).num_steps == 0
    assert {path.name for path in folder.iterdir()} == {*OURS} - {CHECKPOINTS, CAPTURES, TRACKING, PROFILES, MERGED}
    assert "stop_at_reward = 0.0" in (folder / "model" / "run.toml").read_text()


def an_earlier_run(folder):
    folder.mkdir()
    for name in set(OURS) - {"model", CHECKPOINTS}:
        (folder / name).write_text(f"the earlier {name}")
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_text("the earlier weights")
    return contents(folder)


class Killed(BaseException):
    """A process that is killed does nothing more."""


@pytest.mark.parametrize("number_of_moves", range(2 * len(OURS) + 2))
def test_a_run_that_is_killed_at_any_moment_loses_nothing_of_the_earlier_one(tmp_path, monkeypatch, number_of_moves):
    folder = tmp_path / "run"
    before = an_earlier_run(folder)
    moves = iter(range(number_of_moves))
    rename = type(folder).rename

    def until_killed(path, target):
        if next(moves, None) is None:
            raise Killed
        return rename(path, target)

    monkeypatch.setattr(type(folder), "rename", until_killed)
    with suppress(Killed):
        set_aside(folder, OURS)
        (folder / "run.toml").write_text("the new one")
        put_back(folder, OURS)
    monkeypatch.undo()
    with held(folder):
        assert contents(folder) == {**before, ".lock": f"{os.getpid()} {os.uname().nodename}\n".encode()}
    assert contents(folder) == before


def test_the_history_of_a_run_that_began_anew_stays_where_it_ends_before_its_first_step(tmp_path):
    (tmp_path / HISTORY).write_text("started\n")
    (tmp_path / PLUGINS).write_text("earlier")
    set_aside(tmp_path, [PLUGINS])
    (tmp_path / HISTORY).write_text("started\nstarted\n")
    (tmp_path / PLUGINS).write_text("new")
    assert put_back(tmp_path, OURS)
    assert contents(tmp_path) == {HISTORY: b"started\nstarted\n", PLUGINS: b"earlier"}


def test_what_a_killed_run_had_not_removed_yet_is_removed(tmp_path):
    an_earlier_run(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "run" / REMOVING)
    with held(tmp_path / "run"):
        pass
    assert {path.name for path in (tmp_path / "run").iterdir()} == {*OURS} - {CHECKPOINTS}


def test_a_model_that_is_a_link_is_replaced_and_what_it_leads_to_stays(run, tmp_path):
    folder = run(max_steps=1).folder
    (folder / "model").rename(tmp_path / "elsewhere")
    (folder / "model").symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path / "elsewhere")
    run(max_steps=1, seed=5)
    assert not (folder / "model").is_symlink()
    assert "seed = 5" in (folder / "model" / "run.toml").read_text()
    assert contents(tmp_path / "elsewhere") == before
    assert not [name for name in (REPLACED, MOVING, REMOVING) if (folder / name).exists()]


def test_the_records_of_a_run_are_read_from_its_file_and_from_no_other(run):
    first = run(max_steps=2)
    assert [record["step"] for record in first.records] == [1, 2]
    assert [step for step, _ in first.series("reward")] == [1, 2]
    with (first.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3}\n')
    assert [record["step"] for record in first.records] == [1, 2], "a run that goes on adds to the file"
    run(max_steps=2, seed=1)
    with pytest.raises(TrainingError, match="a later run replaced them"):
        _ = first.records
    (first.folder / "metrics.jsonl").unlink()
    with pytest.raises(TrainingError, match="No such file"):
        _ = first.records
