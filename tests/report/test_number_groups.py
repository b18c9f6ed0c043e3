"""Whose a number is, and what its component says of it."""

import json
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from plugrad.report.number_groups import groups_of
from plugrad.report.reported_run import Curve, ReportedRun


def grouped(*folders):
    found = groups_of([ReportedRun.read(folder) for folder in folders])
    return {group["title"]: group for group in found}


def captions(group):
    return {number["name"]: number["caption"] for number in group["numbers"]}


def test_numbers_are_grouped_by_their_component_with_its_words(runs):
    found = grouped(runs[0])
    assert list(found)[:4] == ["The run", "Evaluation", "ppo_clip", "own"]
    assert list(found)[-2:] == ["timing", "Speed"]
    loss = found["ppo_clip"]
    assert (loss["kind"], loss["package"]) == ("loss", "plugrad 0.1.0")
    assert captions(loss) == {
        "ppo_clip/loss": "The loss's contribution to the objective, before its weight.",
        "ppo_clip/clip_fraction": "The share of counted tokens that are clipped and therefore have no gradient.",
        "ppo_clip/ratio": "The mean of r over counted tokens.",
    }
    count = "The number of <i>rollouts</i>, as ``of/x`` and `count` are."
    assert captions(found["own"]) == {"own/count": count, "own/of/x": "Any other."}
    assert found["own"]["package"] == "own.py"
    timing = captions(found["timing"])
    assert timing["timing/compute_loss/ppo_clip_s"] == "Time in `compute_loss`, which calls the loss, for each loss."


def test_several_runs_share_a_number(runs):
    found = grouped(*runs)
    reward = next(number for number in found["The run"]["numbers"] if number["name"] == "reward")
    assert [curve["x"] for curve in reward["curves"]] == [[1, 2, 3], [1, 2, 3]]
    assert [curve is None for curve in found["ppo_clip"]["numbers"][0]["curves"]] == [False, True]
    assert [curve is None for curve in found["importance_sampling"]["numbers"][0]["curves"]] == [True, False]


def test_a_run_of_packages_that_are_gone_still_has_its_groups(copied):
    record = json.loads((copied / "plugins.json").read_text())
    for component in record["components"]:
        component["target"] = component["target"].replace("plugrad.standard", "no_such_package.standard")
        component["package"] = "no-such-package"
    (copied / "plugins.json").write_text(json.dumps(record))
    loss = grouped(copied)["ppo_clip"]
    assert (loss["package"], loss["summary"]) == ("no-such-package 0.1.0", "")
    assert captions(loss)["ppo_clip/ratio"] == ""


def test_without_a_record_of_plugins_the_names_still_make_groups(copied):
    (copied / "plugins.json").unlink()
    assert {"The run", "ppo_clip", "timing", "Speed"} <= set(grouped(copied))


@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_a_file_that_is_not_the_recorded_one_says_nothing(copied, tmp_path, digest):
    record = json.loads((copied / "plugins.json").read_text())
    planted = tmp_path / "planted.py"
    planted.write_text(
        'raise SystemExit\n\ndef own(inputs):\n    """Secret.\n\n    Reports:\n        count: secret.\n    """\n'
    )
    for component in record["components"]:
        if component["reference"].endswith(":own"):
            component |= {"target": f"{planted}:own", "sha256": digest}
    (copied / "plugins.json").write_text(json.dumps(record))
    assert captions(grouped(copied)["own"]) == {"own/count": "", "own/of/x": ""}


def test_nothing_that_a_run_names_is_imported(copied, tmp_path, monkeypatch):
    (tmp_path / "planted_module.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    record = json.loads((copied / "plugins.json").read_text())
    for component in record["components"]:
        component["target"] = "planted_module:anything"
    (copied / "plugins.json").write_text(json.dumps(record))
    grouped(copied)
    assert "planted_module" not in sys.modules


def test_the_library_of_the_curves_is_the_published_one():
    """SHA-256 of the files in uplot 1.6.32, as npm has it: whoever renews them changes version and sums together."""
    import hashlib

    import plugrad.report

    folder = Path(plugrad.report.__file__).parent / "uplot"
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:10] for file in folder.iterdir()}
    assert sums == {
        "uPlot.iife.min.js": "19c8d4c6ad",
        "uPlot.min.css": "df630c6a8d",
        "LICENSE": "8f98922969",
    }
    assert "v1.6.32" in (folder / "uPlot.iife.min.js").read_text()


def test_numbers_of_held_out_completions_have_the_words_of_their_metric(runs, tmp_path):
    run = ReportedRun.read(runs[0])
    source = tmp_path / "scored.py"
    source.write_text('class Scored:\n    """Scores.\n\n    Reports:\n        tries: how often.\n    """\n')
    digest = sha256(source.read_bytes()).hexdigest()
    of_set = {"kind": "environment", "reference": "x", "target": f"{source}:Scored", "sha256": digest, "set": "hard"}
    names = ["reward", "pass_at_k/4", "entropy/mean", "environment/tries"]
    curves = {f"{prefix}/{name}": Curve([0], [1.0]) for prefix in ("eval", "eval/hard") for name in names}
    plugins = {**run.plugins, "components": [*run.plugins["components"], of_set]}
    tables = {"evaluation": {"sets": {"hard": {}}}}
    found = {group["title"]: group for group in groups_of([replace(run, curves=curves, plugins=plugins, tables=tables)])}
    assert list(found) == ["Evaluation", "Evaluation: hard"]
    for prefix, group in zip(("eval", "eval/hard"), found.values(), strict=True):
        told = captions(group)
        assert told[f"{prefix}/reward"] == "Mean reward of completions of held-out examples."
        assert told[f"{prefix}/entropy/mean"] == "The mean over counted tokens, in nats."
        assert "succeeds" in told[f"{prefix}/pass_at_k/4"]
    assert captions(found["Evaluation: hard"])["eval/hard/environment/tries"] == "How often."
