"""No command, in no process, imports a file of the working directory, or beside the run file, that nobody names."""

import ast
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from plugrad.processes import environment, environment_with_own_path, leave_out_working_directory

from .conftest import RUN_FILE
from .decoys import plant

NAMED = """
from plugrad import LossInputs, LossOutputs
from a_helper_of_mine import weight


def mine(inputs: LossInputs, scale: float = 1.0) -> LossOutputs:
    return LossOutputs((-weight() * scale * inputs.advantages * inputs.trainer_logprobs * inputs.loss_mask).sum(), {})
"""


@pytest.fixture(scope="module")
def planted_once(tmp_path_factory):
    """A working directory and the folder of a run file, both full of decoys that leave a file when they are imported."""
    here = tmp_path_factory.mktemp("planted")
    beside = here / "beside"
    for place in (here, beside):
        plant(place, here / "imported")
    (beside / "my_loss.py").write_text(NAMED)
    (beside / "my_module.py").write_text(NAMED)
    (beside / "a_helper_of_mine.py").write_text("def weight(): return 1.0\n")
    losses = "".join(f'[[loss]]\nname = "{reference}"\n' for reference in ("my_loss.py:mine", "my_module:mine"))
    (beside / "named.toml").write_text(f"{RUN_FILE}\n{losses}")
    return here


@pytest.fixture
def planted(planted_once, monkeypatch):
    """The working directory."""
    monkeypatch.chdir(planted_once)
    yield planted_once
    (planted_once / "imported").unlink(missing_ok=True)


# test_quickstart.py runs the quickstart among decoys, since it trains for minutes.
COMMANDS = {
    "train": ["train", "beside/named.toml", "--set", "max_steps=1"],
    "train on ranks": [
        *("train", "beside/named.toml", "--num-processes", "2"),
        *("--set", "max_steps=1", "--set", "output_dir=runs/ranks"),
    ],
    "compare": [
        "compare",
        "beside/named.toml",
        "--seeds",
        "1",
        "--vary",
        "loss.0.kwargs.scale=1.0,2.0",
        "--set",
        "max_steps=1",
    ],
    "check": ["check", "beside/my_loss.py:mine"],
    "serve": ["serve", "beside/named.toml", "--set", "model.name=org/model", "--print"],
    "new": ["new", "loss", "my_idea"],
    "list": ["plugins", "list"],
    "show": ["plugins", "show", "ppo_clip"],
    "doctor": ["plugins", "doctor"],
    "help": ["serve", "--help"],
}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_no_decoy_is_imported(planted, arguments):
    program = Path(sysconfig.get_path("scripts"), "plugrad")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == (2 if arguments[0] == "serve" and "--print" in arguments else 0), done.stdout + done.stderr
    assert not (planted / "imported").exists(), (planted / "imported").read_text()


def test_the_working_directory_is_not_passed_on_under_any_of_its_names(tmp_path, monkeypatch):
    """An empty entry, as `PYTHONPATH=$PYTHONPATH:/folder` makes one, is the working directory to Python."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    names = ["", ".", str(tmp_path), f"{tmp_path}/", str(tmp_path / "link")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*names, str(tmp_path / "other")]))
    assert environment()["PYTHONPATH"] == str(tmp_path / "other")
    monkeypatch.setattr(sys, "path", [*names, "/elsewhere"])
    assert environment_with_own_path(ONE="1")["PYTHONPATH"] == "/elsewhere"
    assert leave_out_working_directory() == []
    assert sys.path == ["/elsewhere"]


def test_what_python_imported_before_plugrad_started_is_named(folder):
    (folder / "ast.py").write_text(f"exec(compile(open({ast.__file__!r}).read(), 'ast', 'exec'))\n")
    command = [sys.executable, "-P", "-m", "plugrad", "plugins", "list"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 2
    assert "Python imported ast from the working directory, where a run can write" in " ".join(done.stderr.split())


def test_python_m_plugrad_imports_no_decoy_but_those_that_python_itself_runs_first(folder):
    plant(folder, folder / "imported")
    code = "import runpy, sys; sys.stdout.write(' '.join(sys.modules))"
    first = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd="/").stdout
    for name in ("plugrad", *first.split()):
        (folder / f"{name}.py").unlink(missing_ok=True)
    command = [sys.executable, "-m", "plugrad", "plugins", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not (folder / "imported").exists(), (folder / "imported").read_text()
