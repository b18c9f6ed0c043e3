"""plugrad-policy in real runs: every loss, advantage, metric and extension that it offers, selected by name."""

import inspect
import json
import math
import re
import tomllib
from pathlib import Path

import pytest

from plugrad.registry.resolve import load, resolve
from plugrad.registry.scan import GROUPS, scan

PACKAGE = "plugrad-policy"
PYPROJECT = Path(__file__).parents[2] / "plugins" / PACKAGE / "pyproject.toml"
REWARDS = """
def two_components(completion, example):
    return {"ones": float(completion.count("1")), "length": len(completion) / 4}
"""


def names(kind):
    return sorted(entry.name for entry in scan().of_kind(kind) if entry.package == PACKAGE)


def reported(kind, name):
    """Return the numbers that a component's docstring promises, by their names in metrics.jsonl; NAME stands for any."""
    text = inspect.getdoc(load(resolve(kind, f"{PACKAGE}/{name}", scan()))) or ""
    return {f"{name}/{key}" for key in re.findall(r"^ {4}(\w+): ", text.partition("Reports:")[2], flags=re.MULTILINE)}


def assert_reports_all(record, kind):
    for name in names(kind):
        for promised in reported(kind, name):
            pattern = promised.replace("NAME", r"\w+")
            assert any(re.fullmatch(pattern, found) for found in record), f"metrics.jsonl has no {promised}"


def finite(record):
    return {name for name, value in record.items() if value is not None and math.isfinite(value)}


@pytest.fixture
def environment(write):
    write("two_rewards.py", REWARDS)
    return {"name": "jsonl", "kwargs": {"path": "sums.jsonl", "reward": "two_rewards.py:two_components", "num_eval": 8}}


@pytest.mark.parametrize(("group", "kind"), GROUPS.items())
def test_what_is_installed_is_what_is_here(group, kind):
    """Pip writes entry points down when it installs: `pip install -e plugins/plugrad-policy` after one has changed."""
    written = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]
    assert names(kind) == sorted(written.get(group, {}))


def test_every_loss_in_one_run(run, run_file, environment, write):
    """Two updates a batch: in the second, the policy is no longer the old one. It is its own teacher, who knows the sum."""
    model = {"from_scratch": run_file().model.from_scratch, "teacher": {"policy": True}}
    lines = [{"prompt": f"{i}+{j}=", "teacher_prompt": f"{i + j}={i}+{j}="} for i in range(6) for j in range(6)]
    write("sums.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    losses = [{"name": f"{PACKAGE}/{name}", "weight": 0.05} for name in names("loss")]
    result = run(model=model, loss=losses, environment=environment, max_steps=2, updates_per_batch=2)
    assert len(result.records) == 2
    for record in result.records:
        assert {f"{name}/loss" for name in names("loss")} | {"loss", "grad_norm"} <= finite(record)
        assert_reports_all(record, "loss")
        assert record["loss"] == pytest.approx(0.05 * sum(record[f"{name}/loss"] for name in names("loss")), rel=1e-5)


@pytest.mark.parametrize("name", names("advantage"))
def test_every_advantage_in_a_run(run, environment, name):
    (record,) = run(advantage={"name": f"{PACKAGE}/{name}"}, environment=environment, max_steps=1).records
    assert record["advantage/mean_abs"] > 0
    assert record["grad_norm"] > 0


def test_all_metrics_and_extensions_in_one_run(run, environment):
    extensions = [{"name": f"{PACKAGE}/{name}"} for name in names("extension")]
    losses = [{"name": "importance_sampling"}, {"name": "kl_to_reference", "weight": 0.1}]
    for record in run(extension=extensions, loss=losses, metrics="all", environment=environment, max_steps=2).records:
        assert_reports_all(record, "metric")
        assert_reports_all(record, "extension")
