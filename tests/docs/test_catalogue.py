"""The pages on losses and advantages: every component has its row, and the pictures are what the losses do."""

import html
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy
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
TERMS |= {"a_star_po", "dft", "iw_opd", "positive_nll", "raft", "real", "sdar"}


@cache
def filled(name):
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.filled((ROOT / "docs" / name).read_text(encoding="utf-8"))


@cache
def drawn():
    filled("losses.md")
    return sys.modules["_reference.catalogue"].loss_pictures()


def row_of(entry):
    start = f"| `{entry.name}`<br><small>{entry.package}</small>"
    (row,) = [line for line in filled(PAGES[entry.kind]).splitlines() if line.startswith(start)]
    return row


@cache
def pictures():
    filled("losses.md")
    return sys.modules["_reference.weights"]


def at(ratio, name, advantage, **options):
    loss = plugrad.load("loss", name, **options)
    return pictures().weights(loss, torch.tensor([ratio], dtype=torch.float64), advantage).item()


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
def test_losses_have_a_picture_and_terms_have_none(entry):
    shown = re.search(r"!\[.*?\]\(pictures/losses/(\w+)\.svg\)", row_of(entry))
    assert (shown and shown[1]) == (None if entry.name in TERMS else entry.name)
    if shown:
        svg = ElementTree.fromstring(drawn()[entry.name])
        paths = {path.get("class"): path.get("d") for path in svg.iter("{http://www.w3.org/2000/svg}path")}
        assert paths.keys() == {"grid", "axis", "up", "down"}
        assert paths["up"] != paths["down"]


@pytest.mark.parametrize(
    ("ratio", "name", "up", "down"),
    [
        (1.1, "ppo_clip", 1.1, -1.1),
        (1.3, "ppo_clip", 0.0, -1.3),
        (0.5, "ppo_clip", 0.5, 0.0),
        (1.25, "dapo", 1.25, -1.25),
        (4.5, "cispo", 4.5, -4.5),
        (8.0, "cispo", 5.0, -5.0),
        (2.9, "dual_clip", 0.0, -2.9),
        (3.1, "dual_clip", 0.0, 0.0),
        (1.5, "gspo", 0.0, -1.5),
        (0.5, "gmpo", 0.5, 0.0),
        (1.5, "rollout_is", 0.0, 0.0),
        (2.4, "dppo", 2.4, -2.4),
        (2.6, "dppo", 0.0, -2.6),
        (0.5, "opsm", 0.5, 0.0),
        (0.5, "reinforce", 1.0, -1.0),
        (2.0, "importance_sampling", 2.0, -2.0),
        (1.0, "asymre", 1.1, -0.9),
        (1.0, "opmd", 0.5, -0.5),
        (0.5, "topr", 1.0, -0.5),
        (1.2, "m2po", 1.2, -1.2),
        (1.3, "m2po", 0.0, -1.3),
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
    # kl_cov's penalty is an absolute value: at 1 it has no derivative. asymre shifts the advantage, and opmd scales it.
    [e for e in ENTRIES if e.kind == "loss" and e.name not in TERMS | {"kl_cov", "asymre", "opmd"}],
    ids=lambda entry: entry.name,
)
def test_where_the_policy_has_not_moved_every_policy_gradient_pushes_alike(entry):
    loss = plugrad.load("loss", f"{entry.package}/{entry.name}")
    at_one = int((pictures().RATIOS - 1).abs().argmin())
    found = pictures().weights_of(loss, mixes_sequences=loss.bound.component.facts.mixes_sequences)
    assert found.up[at_one].item() == pytest.approx(1.0, abs=1e-6)
    assert found.down[at_one].item() == pytest.approx(-1.0, abs=1e-6)


def test_one_micro_batch_of_all_ratios_is_the_same_as_one_each():
    loss = plugrad.load("loss", "gspo")
    one_each = pictures().weights_of(loss, mixes_sequences=True)
    torch.testing.assert_close(pictures().weights_of(loss).up, one_each.up)


def test_a_curve_keeps_to_its_points_and_needs_few_of_them():
    points = [(float(x), max(0.0, x - 50.0) ** 2 / 100) for x in range(100)]
    few = pictures()._without_straight_parts(points)
    assert len(few) < 30
    assert (few[0], few[-1]) == (points[0], points[-1])
    at = [x for x, _ in points]
    drawn_at = numpy.interp(at, [x for x, _ in few], [y for _, y in few])
    assert drawn_at == pytest.approx([y for _, y in points], abs=pictures().TOLERANCE)


def test_what_a_docstring_says_of_other_systems_is_in_its_row():
    rows = {entry.name: row_of(entry).rpartition(" | ")[2] for entry in ENTRIES}
    assert "Known as `clip_ratio_c` (verl, 3.0)" in rows["dual_clip"]
    assert rows["gspo"] == "`clip_low`: slime leaves PPO's 0.2 in place. |"
    assert rows["sapo"] == "&ndash; |"


def test_every_objective_has_a_row_with_its_formula():
    text = html.unescape(filled("objectives.md"))
    entries = [entry for kind in ("loss", "advantage", "metric") for entry in scan().of_kind(kind)]
    for entry in (entry for entry in entries if entry.package == "plugrad-objectives"):
        target = load(resolve(entry.kind, f"{entry.package}/{entry.name}", scan()))
        assert " ".join(target.__doc__.split("\n\n")[0].replace("`", "").split()) in text
        assert f"`{entry.name}`<br><small>{entry.kind}</small>" in text


def test_a_table_that_there_is_not_is_an_error():
    filled("losses.md")
    with pytest.raises(ValueError, match="no table of 'metrics'"):
        sys.modules["_reference.catalogue"].catalogue("metrics")
