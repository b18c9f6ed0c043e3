"""A process that a plugin forks does not train on beside its parent."""

import json
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def forking(folder):
    shutil.copy(HERE / "forking.py", folder / "forking.py")
    return folder


@pytest.mark.parametrize(
    ("how", "code", "told"), [("returns", "1", "returned"), ("raises", "1", "raised RuntimeError"), ("exits", "7", "")]
)
def test_a_child_that_comes_back_from_its_call_is_ended(forking, ends, how, code, told):
    done = ends("train", "run.toml", "--set", f"environment={{name='forking.py:Environment', kwargs={{how='{how}'}}}}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("called os.fork()") == bool(told)
    if told:
        assert "Note: the environment 'Environment' (" in done.stderr
        assert f"the new process {told} into the run" in done.stderr
    lines = (forking / "runs" / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    assert {line.split()[1] for line in (forking / "codes.txt").read_text().splitlines()} == {code}
    assert len({line.split()[0] for line in (forking / "codes.txt").read_text().splitlines()}) == 1
    assert done.stdout.count("run folder") == 1
    assert (forking / "runs" / "run" / "model" / "config.json").is_file()


def test_at_import(forking, ends, monkeypatch):
    monkeypatch.setenv("FORKS_AT_IMPORT", "1")
    done = ends("train", "run.toml", "--set", "environment={name='forking.py:Environment'}", "--set", "max_steps=1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("called os.fork()") == 1
    assert done.stdout.count("run folder") == 1
