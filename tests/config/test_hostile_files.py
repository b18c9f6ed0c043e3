"""Run files, overrides and paths that no file system or parser takes: each is an error of ours."""

import os

import pytest

from plugrad import PlugradError, RunFile, RunFileError
from plugrad.config.override import Override
from plugrad.trainer.record.run_diff import EarlierRun
from plugrad.trainer.record.run_folder import check_run_folder

MINIMAL = '[model]\nname = "a/model"\n[environment]\nname = "arithmetic"\n'
TABLES = {"model": {"name": "a/model"}, "environment": {"name": "arithmetic"}}
DIGITS = "9" * 5000
TEXTS = {
    "digits": f"seed = {DIGITS}\n",
    "hexadecimal": f"seed = 0x{DIGITS}\n",
    "digits in options": f"[loss]\nname = 'a'\nkwargs = {{ x = {DIGITS} }}\n",
    "nested lists": "metrics = " + "[" * 100_000 + "]" * 100_000 + "\n",
    "nested tables": "[loss]\nkwargs = " + "{ a = " * 2000 + "1" + "}" * 2000 + "\n",
    "dotted keys": "loss.kwargs" + ".a" * 3000 + " = 1\n",
    "self": "self = 1\n",
    "self as a table": "[self]\nx = 1\n",
    "self in a table": "[rollout]\nself = 1\n",
    "cls": "cls = 1\n",
    "an empty key": '"" = 1\n',
    "NUL in a key": '"a\\u0000b" = 1\n',
    "NUL in output_dir": 'output_dir = "a\\u0000b"\n',
    "NUL in a search path": 'search_paths = ["a\\u0000b"]\n',
    "NUL in a folder of weights": '[rollout.server]\nweights_folder = "a\\u0000b"\n',
    "nobody's home": 'output_dir = "~nobody-of-this-name/run"\n',
    "nobody's weights": '[rollout.server]\nweights_folder = "~nobody-of-this-name/run"\n',
    "nobody's folder": 'search_paths = ["~nobody-of-this-name/run"]\n',
    "nobody's model": '[model.teacher]\nname = "~nobody-of-this-name/run"\n',
    "a circle": 'output_dir = "circle/run"\n',
    "a model in a circle": '[model.teacher]\nname = "circle"\n',
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    return tmp_path


@pytest.mark.parametrize("case", TEXTS)
def test_a_run_file_of_what_nothing_can_use_is_refused(case, folder):
    text = TEXTS[case]
    (folder / "run.toml").write_text(f"{MINIMAL}{text}" if text.startswith("[") else f"{text}{MINIMAL}")
    with pytest.raises(RunFileError) as caught:
        RunFile.load("run.toml")
    assert len(caught.value.args[0]) < 2000


@pytest.mark.parametrize(
    "name", ["fifo", "circle", "a\0b", "x" * 300, "/".join(["x" * 200] * 30), "file/run.toml", "\ud800", ""]
)
def test_a_path_that_leads_to_no_file_is_refused_without_waiting(name, folder):
    os.mkfifo(folder / "fifo")
    (folder / "file").write_text("")
    for read in (RunFile.load, EarlierRun.read):
        with pytest.raises(RunFileError):
            read(name)


def test_a_pipe_is_refused_wherever_a_file_is_read(folder):
    os.mkfifo(folder / "pipe")
    (folder / "run").mkdir()
    os.mkfifo(folder / "run" / "run.toml")
    (folder / "run" / "plugins.json").write_text("{}")
    from plugrad.standard.environments.jsonl import Jsonl

    for read in (
        lambda: RunFile.load("pipe"),
        lambda: EarlierRun.read("run"),
        lambda: Jsonl(folder / "pipe", "math:sqrt"),
    ):
        with pytest.raises(PlugradError, match="this is no regular file"):
            read()


@pytest.mark.parametrize("output_dir", ["x" * 300, "/".join(["x" * 200] * 30), "fifo", "fifo/run", "/dev/null"])
def test_a_run_folder_that_cannot_be_is_refused_before_the_run(output_dir, folder):
    os.mkfifo(folder / "fifo")
    with pytest.raises(RunFileError, match="cannot be written"):
        check_run_folder(folder / output_dir, overwrite=False)


@pytest.mark.parametrize("output_dir", ["a\0b", "~nobody-of-this-name/run", "circle/run"])
def test_the_paths_of_a_run_file_from_python_are_as_careful(output_dir, folder):
    with pytest.raises(RunFileError):
        RunFile(**TABLES, output_dir=output_dir).with_absolute_paths()


@pytest.mark.parametrize(
    "text",
    [
        f"seed={DIGITS}",
        f"loss.kwargs.x={DIGITS}",
        "seed=" + "[" * 100_000,
        "seed=" + "[" * 100_000 + "]" * 100_000,
        "loss.kwargs" + ".a" * 100_000 + "=1",
        "loss.²=1",
        "loss.²x.weight=1",
        "loss.².weight=1",
        f"loss.{DIGITS}.weight=1",
        "loss.-1.weight=1",
        "self=1",
        "loss.self=1",
    ],
    ids=range(12),
)
def test_an_override_of_what_nothing_can_use_is_refused(text, folder):
    (folder / "run.toml").write_text(MINIMAL + "[[loss]]\nname = 'a'\n[[loss]]\nname = 'b'\n")
    with pytest.raises(RunFileError):
        RunFile.load("run.toml", [text])


@pytest.mark.parametrize("text", ["1\nmax_steps = 3", "1 # a note", "1#2", "1]\nother = [2", "1,", "1, 2", "'a' # 'b'"])
def test_nothing_after_the_value_of_an_override_is_dropped(text):
    assert Override(f"seed={text}").value == text


@pytest.mark.parametrize(("text", "value"), [("[1, # one\n2]", [1, 2]), ("'a#b'", "a#b"), ('"a\\nb"', "a\nb"), ("\n1\n", 1)])
def test_a_whole_value_of_several_lines_is_a_value(text, value):
    assert Override(f"seed={text}").value == value
