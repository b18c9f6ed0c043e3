"""The run files that the documentation shows can be used: everything but the model is resolved, bound and tried."""

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from plugrad import RunFile
from plugrad.config.engine_kinds import engine_names
from plugrad.host.environment import BoundEnvironment
from plugrad.host.preflight import preflight
from plugrad.host.select import select
from plugrad.host.trial_texts import TrialTexts

ROOT = Path(__file__).parents[2]
SHOWN = sorted((ROOT / "docs" / "runs").glob("*.toml"))
QUICKSTART = [Path(str(files("plugrad.runs").joinpath(f"{stage}.toml"))) for stage in ("supervised", "reinforce")]


@pytest.mark.parametrize("path", [*SHOWN, *QUICKSTART], ids=lambda path: path.stem)
def test_a_run_file_passes_the_pre_flight(path):
    run_file = RunFile.load(path)
    selection = select(run_file)
    environment = BoundEnvironment.create(selection.environment)
    texts = TrialTexts(replays=not run_file.rollout.engine_kind.samples)
    preflight(selection, environment, run_file.rollout.rollouts_per_example, texts=texts)


def readme_blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_readmes_run_file_is_one():
    (block,) = [block for block in readme_blocks("toml") if "[model]" in block]
    assert RunFile.model_validate(tomllib.loads(block)).loss[0].name == "soft_clip"


def test_the_readmes_loss_is_the_one_beside_the_run_files():
    (block,) = [block for block in readme_blocks("python") if "def my_loss" in block]
    function = block[block.index("def my_loss") :]
    assert function.strip() in (ROOT / "docs" / "runs" / "my_loss.py").read_text()


@pytest.mark.parametrize("engine", engine_names())
def test_every_engine_is_where_one_looks_for_it(engine):
    assert f"`{engine}`" in (ROOT / "README.md").read_text()
    assert f"\n| `{engine}` |" in (ROOT / "docs" / "rollouts.md").read_text()
