"""What plugins leave running does not keep a command from its end."""

import re
import shutil
from pathlib import Path

import pytest

from plugrad.registry import left_threads

HERE = Path(__file__).parent
ALL = (
    *("--set", "loss.name=leaving.py:loss", "--set", "extension=[{name='leaving.py:Extension'}]"),
    *("--set", "environment={name='leaving.py:Environment'}"),
)


@pytest.fixture
def leaving(folder, monkeypatch):
    monkeypatch.setattr(left_threads, "PATIENCE_S", 0.2)
    shutil.copy(HERE / "leaving.py", folder / "leaving.py")
    return folder


def test_a_run_ends_and_says_whose_threads_and_processes_it_leaves(leaving, ends):
    done = ends("train", "run.toml", *ALL)
    assert done.returncode == 0, done.stderr
    assert "run folder" in done.stdout
    for owner, kind, name in [
        ("the loss 'loss'", "thread", "of-the-loss"),
        ("the environment 'Environment'", "process", "of-the-environment"),
        ("the extension 'Extension'", "thread", "of-the-pool_0"),
    ]:
        assert re.search(rf"Note: {owner} \(.*leaving.py\) left a {kind} running \({name}[^)]*\)", done.stderr), done.stderr
    assert "of-the-idle" not in done.stderr
    assert (leaving / "runs" / "run" / "model" / "config.json").is_file()


def test_a_command_that_fails_ends_with_its_own_code(leaving, ends):
    with (leaving / "leaving.py").open("a") as file:
        file.write("\na_thread()\na_busy_pool()\nwrong = 1\n")
    done = ends("train", "run.toml", "--set", "loss.name=leaving.py:wrong")
    assert done.returncode == 2
    assert "left a thread running (of-the-loss, of-the-pool_0)" in done.stderr
