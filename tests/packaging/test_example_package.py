"""The promise itself: wheels in a clean environment, and in an empty folder a run file that names the plugins."""

import json
import math
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from plugrad.registry.scan import KINDS

ROOT = Path(__file__).parents[2]
NAMES = ("compat", "environments", "example", "objectives", "policy")
PACKAGES = [ROOT / "plugins" / f"plugrad-{name}" for name in NAMES]
TEMPLATES = ROOT / "core" / "plugrad" / "scaffold" / "templates"
COMPONENTS = {"loss": "soft_clip", "advantage": "group_quantile", "metric": "solved"}

RUN_FILE = """
output_dir = "run"
max_steps = 3
updates_per_batch = 2

[model.from_scratch]
model_type = "qwen3"
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2

[environment]
name = "arithmetic"
kwargs = { digits = 1 }

[rollout]
prompts_per_step = 4
rollouts_per_example = 4
max_new_tokens = 3

[loss]
name = "soft_clip"
kwargs = { width = 0.1 }

[advantage]
name = "plugrad-example/group_quantile"

[[metric]]
name = "solved"
kwargs = { threshold = 0.5 }
"""

pytestmark = pytest.mark.slow


def call(*command, cwd):
    """Run a command that knows nothing of this checkout, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environment, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Build all packages; return their wheels by the package's name."""
    folder = tmp_path_factory.mktemp("wheels")
    for source in (ROOT, *PACKAGES):
        call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source, cwd=folder)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def programs(wheels, tmp_path_factory):
    """Install the wheels into a new environment; return its folder of programs. It is removed in the end: it is large."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    constraints = ROOT / "constraints.txt"
    # Byte code takes pip longer than all the rest, and little of it is needed here.
    arguments = ["--no-compile", "--constraint", constraints, *wheels.values()]
    call(folder / "bin" / "python", "-m", "pip", "install", *arguments, cwd=folder)
    yield folder / "bin"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def run_folder(programs, tmp_path_factory):
    """Train in an empty folder."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "run.toml").write_text(RUN_FILE, encoding="utf-8")
    call(programs / "plugrad", "train", "run.toml", cwd=folder)
    return folder / "run"


def test_the_wheels_hold_everything_that_is_not_a_module(wheels):
    assert wheels.keys() == {"plugrad", *(package.name.replace("-", "_") for package in PACKAGES)}
    held = {name: set(ZipFile(wheel).namelist()) for name, wheel in wheels.items()}
    run_files = {f"plugrad/runs/{path.name}" for path in (ROOT / "core" / "plugrad" / "runs").glob("*.toml")}
    assert {"plugrad/runs/supervised.toml", "plugrad/runs/reinforce.toml"} <= run_files <= held["plugrad"]
    templates = {str(path.relative_to(ROOT / "core")) for path in TEMPLATES.rglob("*") if path.is_file()}
    assert {f"plugrad/scaffold/templates/{kind}/component.py.template" for kind in KINDS} <= templates <= held["plugrad"]
    for name, files in held.items():
        assert f"{name}/py.typed" in files
        assert not [file for file in files if "tests/" in file]


@pytest.mark.parametrize(
    "source",
    [ROOT / "core", *(package / "src" for package in PACKAGES)],
    ids=["plugrad", *(package.name for package in PACKAGES)],
)
def test_a_wheel_holds_every_module(wheels, source):
    (name,) = {path.name for path in source.iterdir() if path.is_dir()} & wheels.keys()
    built = {file for file in ZipFile(wheels[name]).namelist() if file.endswith(".py")}
    assert built == {str(path.relative_to(source)) for path in source.rglob("*.py")}


def test_the_installed_packages_fit_together(programs, tmp_path):
    call(programs / "python", "-m", "pip", "check", cwd=tmp_path)


def test_a_package_can_be_written_from_what_is_installed(programs, tmp_path):
    printed = call(programs / "plugrad", "new", "environment", "my_idea", cwd=tmp_path)
    assert "src/plugrad_my_idea/my_idea.py" in printed
    assert (tmp_path / "plugrad-my-idea" / ".github" / "workflows" / "publish.yml").is_file()


def test_the_plugins_are_listed(programs, tmp_path):
    listed = json.loads(call(programs / "plugrad", "plugins", "list", "--json", cwd=tmp_path))["components"]
    found = {tuple(entry[key] for key in ("kind", "name", "package", "version")) for entry in listed}
    assert {(kind, name, "plugrad-example", "0.1.0") for kind, name in COMPONENTS.items()} <= found


def test_the_run_uses_them(run_folder):
    records = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3]
    for record in records:
        assert math.isfinite(record["loss"])
        assert record["loss"] == record["soft_clip/loss"]
        assert 0 < record["soft_clip/gate"] < 2
        assert 0 <= record["solved/all"] <= record["solved/any"] <= 1


def test_the_run_records_whose_they_were(run_folder):
    recorded = json.loads((run_folder / "plugins.json").read_text())["components"]
    theirs = {part["kind"]: part for part in recorded if part["package"] == "plugrad-example"}
    assert {kind: part["target"].rpartition(":")[2] for kind, part in theirs.items()} == COMPONENTS
    assert {part["version"] for part in theirs.values()} == {"0.1.0"}
    options = {kind: part["options"] for kind, part in theirs.items()}
    assert options == {"loss": {"width": 0.1}, "advantage": {"quantile": 0.5}, "metric": {"threshold": 0.5}}


def test_the_run_folder_holds_the_resolved_run_file_and_the_model(run_folder):
    assert (run_folder / "model" / "config.json").is_file()
    assert tomllib.loads((run_folder / "run.toml").read_text())["loss"][0]["kwargs"] == {"width": 0.1}
