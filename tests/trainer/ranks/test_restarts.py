"""When all ranks are started again, with which arguments, and what is left of it in the run folder."""

import json
import logging

import pytest

from plugrad.errors import EngineError, ServersLost, TrainingError
from plugrad.launcher_watch import LAUNCH_FOLDER
from plugrad.trainer.checkpoints.checkpoint_folder import folder_of
from plugrad.trainer.ranks.launch import MAY_PASS, Ended
from plugrad.trainer.ranks.restarts import launch_again, telling_the_launcher
from plugrad.trainer.record.replaced_run import REPLACED

GIVEN = ["train", "run.toml", "--overwrite", "--num-processes", "2"]
GOING_ON = ["train", "run.toml", "--num-processes", "2", "--resume"]


def lost(may_pass=True):
    error = TrainingError("rank 1 (process 9) was killed by SIGKILL.")
    error.may_pass = may_pass
    return error


@pytest.fixture
def launches(tmp_path):
    """Launch with these ends, one after another; return the exit code, the arguments of each start, and the waits."""

    def run(*ends, max_restarts=2):
        starts, waits, left = [], [], list(ends)

        def start(arguments, num_processes):
            assert num_processes == 2
            starts.append(list(arguments))
            end = left.pop(0)
            if isinstance(end, Exception):
                raise end
            return end

        code = launch_again(GIVEN, 2, tmp_path, max_restarts, start=start, wait=waits.append)
        assert not left
        return code, starts, waits

    return run


def history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_a_lost_rank_is_replaced_and_the_run_goes_on(launches, tmp_path, caplog):
    folder_of(tmp_path, 40).mkdir(parents=True)
    with caplog.at_level(logging.WARNING, "plugrad"):
        assert launches(lost(), Ended(0, False)) == (0, [GIVEN, GOING_ON], [1.0])
    assert "Restart 1 of 2, after step 40: rank 1 (process 9) was killed by SIGKILL." in caplog.text
    (line,) = history(tmp_path)
    assert (line["event"], line["step"], line["restart"], line["max_restarts"]) == ("restarted", 40, 1, 2)
    assert line["why"] == "rank 1 (process 9) was killed by SIGKILL."


def test_servers_that_are_lost_may_come_back(launches, tmp_path):
    assert launches(Ended(1, True), Ended(2, True), Ended(0, False)) == (0, [GIVEN, GOING_ON, GOING_ON], [1.0, 2.0])
    assert [line["why"] for line in history(tmp_path)] == ["the servers were lost"] * 2


@pytest.mark.parametrize("end", [Ended(1, False), Ended(2, False), Ended(130, False), Ended(0, False)])
def test_the_error_of_a_plugin_and_a_signal_of_the_user_are_final(launches, tmp_path, end):
    assert launches(end) == (end.exit_code, [GIVEN], [])
    assert not (tmp_path / "history.jsonl").exists()


def test_a_rank_that_a_plugin_ended_is_final(launches):
    with pytest.raises(TrainingError, match="SIGKILL"):
        launches(lost(may_pass=False))


def test_after_the_last_restart_the_error_is_shown(launches, tmp_path):
    with pytest.raises(TrainingError, match="SIGKILL"):
        launches(lost(), lost(), lost())
    assert [line["restart"] for line in history(tmp_path)] == [1, 2]


def test_a_run_that_has_not_yet_replaced_another_does_not_go_on_from_that(launches, tmp_path):
    (tmp_path / REPLACED).mkdir()
    folder_of(tmp_path, 40).mkdir(parents=True)
    assert launches(lost(), Ended(0, False)) == (0, [GIVEN, GIVEN], [1.0])
    assert history(tmp_path)[0]["step"] == 0


@pytest.mark.parametrize(("error", "is_told"), [(ServersLost("gone"), True), (EngineError("wrong"), False)])
def test_a_rank_tells_the_launcher_of_lost_servers_alone(tmp_path, monkeypatch, error, is_told):
    monkeypatch.setenv(LAUNCH_FOLDER, str(tmp_path))
    with pytest.raises(EngineError), telling_the_launcher():
        raise error
    assert (tmp_path / MAY_PASS).exists() == is_told
