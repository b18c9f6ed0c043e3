"""The pages on losses and advantages: every component has its row, and the pictures are what the losses do."""

import html
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

import plugrad
from plugrad.registry.options import options_of
from plugrad.registry.resolve import load, resolve
from plugrad.registry.scan import CORE, scan

ROOT = Path(__file__).parents[2]
PACKAGES = (CORE, "plugrad-policy")
PAGES = {"loss": "losses.md", "advantage": "advantages.md"}
ENTRIES = [entry for kind in PAGES for entry in scan().of_kind(kind) if entry.package in PACKAGES]
TERMS = {"cross_entropy", "entropy_bonus", "entropy_quantile_bonus", "kl_to_reference", "kl_penalty", "reference_kl"}


@cache
def filled(name):
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.filled((ROOT / "docs" / name).read_text(encoding="utf-8"))


def row_of(entry):
    start = f"| `{entry.name}`<br><small>{entry.package}</small>"
    (row,) = [line for line in filled(PAGES[entry.kind]).splitlines() if line.startswith(start)]
    return row


@cache
def pictures():
    filled("losses.md")
    return sys.modules["_reference.weights"]


@cache
def weights_of(name, advantage, **options):
    return pictures().weights(plugrad.load("loss", name, **options), advantage)


def at(ratio, name, advantage, **options):
    place = int((pictures().ratios() - ratio).abs().argmin())
    return weights_of(name, advantage, **options)[place].item()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_every_component_has_a_row_with_its_formula_and_options(entry):
    source = resolve(entry.kind, f"{entry.package}/{entry.name}", scan())
    target, row = load(source), row_of(entry)
    formula = " ".join(target.__doc__.split("\n\n")[0].replace("`", "").split())
    assert formula in html.unescape(row)
    for option in options_of(source, target):
        assert f"`{option.name}`" in row


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_a_paper_is_linked(entry):
    row = row_of(entry)
    named = set(re.findall(r"arXiv:(\d{4}\.\d{5})", row))
    assert set(re.findall(r"https://arxiv\.org/abs/(\d{4}\.\d{5})", row)) == named
    module = sys.modules[load(resolve(entry.kind, f"{entry.package}/{entry.name}", scan())).__module__]
    assert set(re.findall(r"arXiv:(\d{4}\.\d{5})", module.__doc__)) <= named


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.kind == "loss"], ids=lambda entry: entry.name)
def test_losses_have_a_picture_and_terms_a_dash(entry):
    drawn = re.search(r"<svg .*?</svg>", row_of(entry))
    assert bool(drawn) == (entry.name not in TERMS)
    if drawn:
        paths = {path.get("class"): path.get("d") for path in ElementTree.fromstring(drawn[0]).iter("path")}
        assert paths.keys() == {"grid", "axis", "up", "down"}
        assert paths["up"] != paths["down"]
    else:
        assert "</small><br>&ndash; |" in row_of(entry)


@pytest.mark.parametrize(
    ("ratio", "name", "up", "down"),
    [
        (1.1, "ppo_clip", 1.1, -1.1),
        (1.3, "ppo_clip", 0.0, -1.3),
        (0.5, "ppo_clip", 0.5, 0.0),
        (1.25, "dapo", 1.25, -1.25),
        (2.0, "cispo", 2.0, -2.0),
        (1.5, "gspo", 0.0, -1.5),
        (0.5, "gmpo", 0.5, 0.0),
        (1.5, "rollout_is", 0.0, 0.0),
        (2.0, "dppo", 0.0, -2.0),
        (0.5, "opsm", 0.5, 0.0),
        (0.5, "reinforce", 1.0, -1.0),
        (2.0, "importance_sampling", 2.0, -2.0),
    ],
)
def test_the_curves_are_the_weights_by_hand(ratio, name, up, down):
    assert at(ratio, name, 1.0) == pytest.approx(up)
    assert at(ratio, name, -1.0) == pytest.approx(down)


def test_an_option_moves_the_edge():
    assert at(1.4, "ppo_clip", 1.0) == 0
    assert at(1.4, "ppo_clip", 1.0, clip_eps=0.5) == pytest.approx(1.4)


@pytest.mark.parametrize(
    "entry",
    # kl_cov's penalty is an absolute value: at 1 it has no derivative.
    [e for e in ENTRIES if e.kind == "loss" and e.name not in TERMS | {"kl_cov"}],
    ids=lambda entry: entry.name,
)
def test_where_the_policy_has_not_moved_every_policy_gradient_pushes_alike(entry):
    loss = plugrad.load("loss", f"{entry.package}/{entry.name}")
    at_one = int((pictures().ratios() - 1).abs().argmin())
    for advantage in (1.0, -1.0):
        weights = pictures().weights(loss, advantage, is_cut_dependent=loss.bound.component.facts.cut_dependent)
        assert weights[at_one].item() == pytest.approx(advantage, abs=1e-6)


def test_one_micro_batch_of_all_ratios_is_the_same_as_one_each():
    loss = plugrad.load("loss", "gspo")
    torch.testing.assert_close(weights_of("gspo", 1.0), pictures().weights(loss, 1.0, is_cut_dependent=True))


def test_what_a_docstring_says_of_other_systems_is_in_its_row():
    rows = {entry.name: row_of(entry).rpartition(" | ")[2] for entry in ENTRIES}
    assert "Known as `clip_ratio_c` (verl, 3.0)" in rows["dual_clip"]
    assert rows["gspo"] == "`clip_low`: slime leaves PPO's 0.2 in place. |"
    assert rows["sapo"] == "&ndash; |"


def test_a_table_that_there_is_not_is_an_error():
    filled("losses.md")
    with pytest.raises(ValueError, match="no table of 'metrics'"):
        sys.modules["_reference.catalogue"].catalogue("metrics")
