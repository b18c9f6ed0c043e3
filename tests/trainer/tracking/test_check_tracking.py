"""What `[tracking]` may say, and what is refused before a model loads."""

import importlib.util

import pytest

from plugrad import RunFile, RunFileError
from plugrad.config.reading import as_tables
from plugrad.config.tables.tracking_table import NAMES, TrackingTable
from plugrad.trainer.checkpoints.going_on import may_change
from plugrad.trainer.tracking.check_tracking import check_tracking
from plugrad.trainer.tracking.sample_tables import in_markdown, tables_of
from plugrad.trainer.tracking.tracked_config import config_of, flattened
from plugrad.trainer.tracking.tracker_ids import read_ids, write_ids
from plugrad.trainer.tracking.tracker_kinds import KINDS

TABLES = {"model": {"name": "x"}, "environment": {"name": "arithmetic"}}
MISSING = [name for name in NAMES if importlib.util.find_spec(name) is None]


def table(*names, **tables):
    return TrackingTable(**{"with": list(names), **tables})


def test_every_name_is_known():
    assert set(KINDS) == set(NAMES)


def test_a_name_of_none_is_refused_with_those_that_there_are():
    with pytest.raises(RunFileError, match=r"tracking.with.*'tensorboard'"):
        RunFile(**TABLES, tracking={"with": ["tensorbord"]})
    with pytest.raises(RunFileError, match=r"no tracker is called 'wanb'\. Did you mean 'wandb'"):
        RunFile(**TABLES, tracking={"kwargs": {"wanb": {}}})


def test_a_secret_is_refused():
    kwargs = {"comet_ml": {"api_key": "Ab3dEf6hIj9lMn2pQr5tUv8xYz"}}
    with pytest.raises(RunFileError, match="log in with the tracker's own command"):
        RunFile(**TABLES, tracking={"kwargs": kwargs})


@pytest.mark.skipif(not MISSING, reason="every tracker is installed")
def test_a_missing_package_is_named_with_the_command_that_installs_it():
    with pytest.raises(RunFileError, match=f"{MISSING[0]}: the package .* is not installed. To install it: pip install "):
        check_tracking(table(MISSING[0]))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"flush_sec": 3}, r"has no option 'flush_sec'. Did you mean 'flush_secs'\?"),
        ({"log_dir": "x"}, "log_dir: plugrad sets it"),
        ({"flush_secs": "10"}, "flush_secs = '10': tensorboard takes a number there, such as its default 120"),
        ({"max_queue": True}, "max_queue = True: tensorboard takes a number there"),
        ({"filename_suffix": 3}, "filename_suffix = 3: tensorboard takes a text there, such as its default ''"),
    ],
)
def test_options_are_checked_against_what_the_tracker_takes(kwargs, message):
    pytest.importorskip("tensorboard")
    with pytest.raises(RunFileError, match=message):
        check_tracking(table("tensorboard", kwargs={"tensorboard": kwargs}))


def test_what_it_takes_is_accepted():
    pytest.importorskip("tensorboard")
    check_tracking(table("tensorboard", kwargs={"tensorboard": {"flush_secs": 3}}))


def test_it_may_change_on_resuming_and_is_written_as_it_is_read():
    assert may_change("tracking.with")
    assert may_change("samples.num")
    run_file = RunFile(**TABLES, tracking={"with": ["aim", "aim"], "kwargs": {"aim": {"repo": "x"}}})
    assert run_file.tracking.trackers == ["aim"]
    assert RunFile(**as_tables(run_file)) == run_file


def test_the_configuration_holds_no_secret():
    record = {"components": [{"options": {"api_key": "Ab3dEf6hIj9lMn2pQr5tUv8xYz"}}], "versions": {"torch": "2"}}
    config = config_of(RunFile(**{**TABLES, "optimizer": {"betas": [0.9, 0.999]}}), record)
    assert config["plugins.json"]["components"][0]["options"]["api_key"] == "..."
    flat = flattened(config)
    assert flat["optimizer.lr"] == 1e-5
    assert flat["plugins.json.versions.torch"] == "2"
    assert flat["optimizer.betas"] == "[0.9, 0.999]"
    assert "Ab3dEf6" not in str(flat)


def test_a_completion_cannot_break_the_table():
    sample = {
        "step": 1, "phase": "evaluation", "set": "hard", "prompt": "a|b\n# c", "completion": "<img src=x> `x` \x1b[31m",
        "reference": [1], "reward": 0.5, "rewards": {"a": 0.5}, "advantage": None, "length": 3, "truncated": False,
        "group": 0,
    }  # fmt: skip
    ((name, rows),) = tables_of([sample]).items()
    assert name == "samples/evaluation/hard"
    head, line, row = in_markdown(rows).splitlines()
    assert head.count("|") == line.count("|") == row.count("|")
    assert "<img" not in row
    assert "a&#124;b<br>&#35; c" in row
    assert "\x1b" not in row


def test_ids_are_read_back_and_spoiled_ones_are_none(tmp_path):
    write_ids(tmp_path, {"wandb": "abc"})
    assert read_ids(tmp_path) == {"wandb": "abc"}
    (tmp_path / "ids.json").write_text("[]")
    assert read_ids(tmp_path) == read_ids(tmp_path / "missing") == {}
