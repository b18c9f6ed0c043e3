"""The run files with turns, tools and an agent train: two steps of each, from the supervised run that it starts from."""

import shutil
import sys
from pathlib import Path

import pytest

from plugrad import RunFile, train

RUNS = Path(__file__).parents[2] / "docs" / "runs"
SMALL = ["max_steps=2", "evaluation={every_steps=0}", "updates_per_batch=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the run files, with the untrained model and both supervised ones."""
    folder = tmp_path_factory.mktemp("docs") / "runs"
    shutil.copytree(RUNS, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        import make_model

        make_model.main("runs/untrained")
        for name in ("make_model", "conversations", "calculator", "guessing"):
            sys.modules.pop(name, None)
    for name in ("games", "calculations"):
        trained(folder, name, "rollout.prompts_per_step=8")
    return folder


def trained(folder, name, *overrides):
    """Train a run file for two steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return train(RunFile.load(folder / f"{name}.toml", [*SMALL, *overrides]))


@pytest.mark.parametrize("name", ["guessing", "calculator", "agent"])
def test_a_run_file_plays(folder, name):
    result = trained(folder, name, "rollout.prompts_per_step=2", "rollout.rollouts_per_example=2")
    assert len(result.series("loss")) == 2
    assert all(turns >= 1 for _, turns in result.series("environment/turns"))
    assert [failed for _, failed in result.series("environment/failed")] == [0.0, 0.0]
    if name == "calculator":
        assert len(result.series("environment/tool_calls")) == 2


def test_made_up_replies_are_read_as_calls(folder):
    sys.path.insert(0, str(folder))
    try:
        import random

        from calculator import calculations, multiply
        from transformers import AutoTokenizer

        from plugrad.host.tools import Tools
        from plugrad.rollout.turns.tool_formats import calls_in
    finally:
        sys.path.remove(str(folder))
    tokenizer, tools = AutoTokenizer.from_pretrained(folder / "runs" / "untrained"), Tools.of([multiply])
    rows = list(calculations(random.Random(0), 20))
    texts = [tokenizer.decode(tokenizer(row["reference"])["input_ids"]) for row in rows]
    assert texts == [row["reference"] for row in rows]
    found = [call for text in texts for call in calls_in(text, tokenizer, tools.schemas, "auto")]
    assert found
    assert {call.name for call in found} == {"multiply"}
    # The template tells the policy of the tool what the made-up messages tell it.
    first = rows[0]["prompt"]
    told = tokenizer.apply_chat_template(first[1:], tools=tools.schemas, tokenize=False)
    assert told == tokenizer.apply_chat_template(first, tokenize=False)
