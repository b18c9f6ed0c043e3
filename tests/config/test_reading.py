"""Reading and writing run files: paths that mean the same from anywhere, and a file that reads back as it was."""

import math
from pathlib import Path

import pytest

from plugrad import RunFile, RunFileError
from plugrad.config.reading import write_run_file
from plugrad.trainer.record.run_folder import check_run_folder

TABLES = {"model": {"name": "a/model"}, "environment": {"name": "arithmetic"}}


def test_a_missing_file_says_where_it_was_sought(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFileError) as caught:
        RunFile.load("rnu.toml")
    assert str(caught.value) == f"there is no run file 'rnu.toml' in {tmp_path}."


def test_a_folder_is_no_run_file(tmp_path):
    with pytest.raises(RunFileError, match=r"is a folder, and not a run file\. It holds no run file"):
        RunFile.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "starts with the byte-order mark of UTF-16 or UTF-32. Save it as UTF-8"),
        ("seed = 1".encode("utf-16"), "starts with the byte-order mark of UTF-16"),
        ("seed = 1".encode("utf-8-sig"), "starts with a byte-order mark. Save it as UTF-8 without"),
        ("seed = 1".encode("utf-16-le"), "has a NUL character, as a text in UTF-16 has"),
        ("# é".encode("latin-1"), "is not UTF-8: byte 3 is 0xe9"),
    ],
)
def test_what_is_not_text_is_refused(content, says, tmp_path):
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(RunFileError, match=rf"the run file '.*run\.toml' {says}"):
        RunFile.load(tmp_path / "run.toml")


def test_what_is_not_toml_is_refused_with_its_line(tmp_path):
    (tmp_path / "run.toml").write_text("seed = 1\nmax_steps = = 3\n")
    with pytest.raises(RunFileError, match=r"run\.toml is not TOML that can be read: .*line 2"):
        RunFile.load(tmp_path / "run.toml")


def test_files_are_sought_beside_the_run_file_and_then_in_the_working_directory(read, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert read().search_paths == [str(tmp_path), str(tmp_path / "work")]
    monkeypatch.chdir(tmp_path)
    assert read().search_paths == [str(tmp_path)]


def test_the_run_folder_has_the_run_files_name(read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read(name="addition.toml").output_dir == str(tmp_path / "runs" / "addition")


def test_paths_become_absolute(read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run_file = read("output_dir = 'there/run'\nsearch_paths = ['losses', '/abs', './losses']")
    assert run_file.output_dir == str(tmp_path / "there" / "run")
    assert run_file.search_paths == [str(tmp_path / "losses"), "/abs"]
    assert read("output_dir = '~/run'").output_dir == str(tmp_path / "home" / "run")


def test_a_local_model_becomes_absolute_and_a_hub_id_stays(read, tmp_path):
    for folder in ("policy", "frozen"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").write_text("not a model")
    tables = "[model]\nname = 'policy'\nreference = { name = './frozen' }\nteacher = { name = 'file' }\n"
    model = read(minimal=f"{tables}[environment]\nname = 'arithmetic'\n").model
    assert (model.name, model.reference.name, model.teacher.name) == (
        str(tmp_path / "policy"),
        str(tmp_path / "frozen"),
        "file",
    )
    assert read().model.name == "a/model"


def test_without_search_paths_the_working_directory_is_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_file = RunFile(**TABLES)
    assert run_file.folders == [tmp_path]
    absolute = run_file.with_absolute_paths()
    assert absolute.search_paths == [str(tmp_path)]
    assert absolute.output_dir == str(tmp_path / "runs" / "run")
    assert absolute.with_absolute_paths() == absolute


def test_what_is_written_reads_back_equal(read, tmp_path):
    run_file = read("""[rollout]
engine = "dataset"
temperature = 0.7
[[loss]]
name = "ppo_clip"
kwargs = { clip_eps = 1e-5, list = [1, 2.0, "three"], nested = { deep = [{ x = true }] } }
[[loss]]
name = "kl_to_reference"
weight = -0.05
[[extension]]
name = "timing"
[evaluation]
every_steps = 3
stop_at_reward = 0.9
""")
    write_run_file(run_file, tmp_path / "resolved.toml")
    assert RunFile.load(tmp_path / "resolved.toml") == run_file


def test_a_run_file_with_every_default_reads_back_equal(tmp_path):
    run_file = RunFile(**TABLES, metrics=["reward"]).with_absolute_paths()
    write_run_file(run_file, tmp_path / "resolved.toml")
    text = (tmp_path / "resolved.toml").read_text()
    assert "weight_decay = 0.0" in text
    assert "generation_batch_size = 512" in text
    assert RunFile.load(tmp_path / "resolved.toml") == run_file


def test_infinite_options_are_written(tmp_path):
    options = {"clip_high": math.inf, "clip_low": -math.inf, "other": math.nan}
    write_run_file(RunFile(**TABLES, loss={"name": "a", "kwargs": options}), tmp_path / "run.toml")
    kwargs = RunFile.load(tmp_path / "run.toml").loss[0].kwargs
    assert (kwargs["clip_high"], kwargs["clip_low"]) == (math.inf, -math.inf)
    assert math.isnan(kwargs["other"])


def test_none_is_left_out_of_what_is_written(tmp_path):
    run_file = RunFile(**TABLES, loss={"name": "a", "kwargs": {"clip": None, "nested": [{"x": None, "y": 1}]}})
    write_run_file(run_file, tmp_path / "run.toml")
    assert RunFile.load(tmp_path / "run.toml").loss[0].kwargs == {"nested": [{"y": 1}]}


def test_paths_from_python_are_written_as_text(tmp_path):
    environment = {"name": "jsonl", "kwargs": {"path": Path("/data/sums.jsonl")}}
    write_run_file(RunFile(**{**TABLES, "environment": environment}), tmp_path / "run.toml")
    assert RunFile.load(tmp_path / "run.toml").environment.kwargs == {"path": "/data/sums.jsonl"}


def test_a_message_lists_no_more_wrong_keys_than_a_screen_holds():
    with pytest.raises(RunFileError, match=r"no key 'k0'[^$]*and 1,980 more\.$") as caught:
        RunFile(**TABLES, **{f"k{index}": index for index in range(2000)})
    assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize(
    "tables", [{"loss": ["a"]}, {"loss": "a"}, {"rollout": 3}, {"model": {"reference": "a"}}, {"metric": [3]}]
)
def test_a_table_is_called_a_table(tables):
    with pytest.raises(RunFileError, match=r"should be a (valid list|table)") as caught:
        RunFile(**{**TABLES, **tables})
    assert not any(word in str(caught.value) for word in ("dictionary", "instance", "LossTable"))


def test_a_folder_with_a_run_file_of_ones_own_is_never_said_to_hold_a_run(tmp_path):
    (tmp_path / "run.toml").write_text("seed = 1")
    for overwrite in (False, True):
        with pytest.raises(RunFileError, match="plugrad did not write it") as caught:
            check_run_folder(tmp_path, overwrite=overwrite)
        assert "--overwrite" not in str(caught.value)
