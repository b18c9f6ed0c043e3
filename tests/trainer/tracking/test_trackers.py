"""Real trackers get a run: numbers, samples and configuration, in the files that they keep."""

import dataclasses
import io
import json
import logging
import math
import os
import sqlite3
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

from plugrad import RunFile, RunFileError
from plugrad.trainer.record.display import Silent
from plugrad.trainer.tracking.tracker_ids import read_ids
from plugrad.trainer.tracking.tracker_kinds import KINDS
from plugrad.trainer.tracking.trackers import Trackers
from plugrad.trainer.train import train

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
pytestmark = pytest.mark.skipif(
    not (find_spec("trackio") and find_spec("wandb")),
    reason="needs trackio, which reads its folder when it is imported, and wandb",
)

TINY = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
TABLES = {
    "max_steps": 2,
    "model": {"from_scratch": TINY},
    "environment": {"name": "arithmetic"},
    "rollout": {"prompts_per_step": 4, "rollouts_per_example": 2, "max_new_tokens": 4},
    "evaluation": {"every_steps": 2, "num_examples": 4},
    "checkpoint": {"every_steps": 2},
    "samples": {"every_steps": 1, "num": 2},
    "metrics": ["reward"],
}
WITH = ["tensorboard", "wandb", "trackio"]


def run_in(folder, **tables):
    return RunFile(**{**TABLES, "output_dir": str(folder), **tables})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home of its own, where nobody is logged in and W&B stays offline."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("WANDB", "TRACKIO"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("TRACKIO_DIR", str(home / "trackio"))
        yield home


@pytest.fixture(scope="module")
def tracked(home, tmp_path_factory):
    """The folder of a run that ended, and went on for one more step."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    tracking = {"with": WITH, "project": "sums", "tags": ["tiny"], "kwargs": {"wandb": {"notes": "hello"}}}
    train(run_in(folder, tracking=tracking), display=Silent())
    first = read_ids(folder / "tracking")
    result = train(run_in(folder, tracking=tracking, max_steps=3), display=Silent(), resume=True)
    assert read_ids(folder / "tracking") == first
    return result


def records_of(result):
    return {record["step"]: record for record in result.records}


def test_tensorboard_has_every_number_of_every_step(tracked):
    events = accumulator.EventAccumulator(str(tracked.folder / "tracking" / "tensorboard"))
    events.Reload()
    records = records_of(tracked)
    names = {name for record in records.values() for name in record} - {"step"}
    assert names <= set(events.Tags()["scalars"])
    for name in names:
        found = {event.step: event.value for event in events.Scalars(name) if math.isfinite(event.value)}
        wanted = {step: record[name] for step, record in records.items() if record.get(name) is not None}
        assert found == pytest.approx(wanted, rel=1e-6)


def test_tensorboard_shows_samples_as_a_table_and_the_run_file(tracked):
    folder = tracked.folder / "tracking" / "tensorboard"
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    texts = events.Tensors("samples/training/text_summary")
    assert [event.step for event in texts] == [1, 2, 3]
    table = texts[0].tensor_proto.string_val[0].decode()
    assert table.startswith("| step | prompt | completion |")
    assert len(table.splitlines()) == 4
    assert "samples/evaluation/text_summary" in events.Tags()["tensors"]
    configuration = "".join(path.read_text() for path in folder.glob("*/hparams.yml"))
    assert "optimizer.lr: 1.0e-05" in configuration
    assert "plugins.json.versions.torch" in configuration


def test_wandb_has_both_parts_of_the_run_under_one_id(tracked):
    run_id = read_ids(tracked.folder / "tracking")["wandb"]
    parts = sorted((tracked.folder / "tracking" / "wandb").glob(f"offline-run-*-{run_id}"))
    assert len(parts) == 2
    content = (parts[0] / f"run-{run_id}.wandb").read_bytes()
    for wanted in (b"sums", b"tiny", b"hello", b"eval/reward", b"tokens_per_s", b"prompts_per_step", b"components"):
        assert wanted in content
    tables = [json.loads(path.read_text()) for path in parts[0].rglob("*.table.json")]
    assert len(tables) == 4
    assert all(table["columns"][:3] == ["step", "prompt", "completion"] for table in tables)


def test_trackio_has_both_parts_in_its_local_store(tracked, home):
    (store,) = (home / "trackio").glob("sums*.db")
    with sqlite3.connect(store) as connection:
        rows = connection.execute("select step, run_name, metrics from metrics order by step").fetchall()
    found = {}
    for step, name, metrics in rows:
        assert name == "mine"
        found.setdefault(step, {}).update(json.loads(metrics))
    for step, record in records_of(tracked).items():
        wanted = {name: value for name, value in record.items() if value is not None and name != "step"}
        assert {name: found[step][name] for name in wanted} == wanted
        assert any(key.startswith("samples/") for key in found[step])


def test_every_tracker_has_the_picture_of_the_run(tracked, home):
    pytest.importorskip("matplotlib")
    image_of = pytest.importorskip("PIL.Image").open
    folder = tracked.folder / "tracking"
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    # The run went on after step 2: one at the end of each part.
    shown = events.Images("curves")
    assert [event.step for event in shown] == [2, 3]
    parts = sorted((folder / "wandb").glob("offline-run-*"))
    pictures = {
        "tensorboard": io.BytesIO(shown[-1].encoded_image_string),
        "wandb": next(path for path in parts[-1].rglob("*.png") if path.name.startswith("curves")),
        "trackio": next(path for path in (home / "trackio").rglob("*.png") if path.parent.name == "3"),
    }
    for name, file in pictures.items():
        picture = image_of(file).convert("RGB")
        assert picture.size == (900, 520), name
        colours = [colour for _, colour in picture.getcolors(2**20)]
        assert (255, 255, 255) in colours
        assert any(blue > red + 100 for red, _, blue in colours), f"{name}: no line for the reward"
        assert any(red > blue + 100 for red, _, blue in colours), f"{name}: no line for held-out examples"


def test_a_picture_that_a_tracker_refuses_or_that_cannot_be_drawn_costs_nothing_else(home, tmp_path, monkeypatch, caplog):
    kind = KINDS["tensorboard"]

    def refuses(*arguments):
        raise ValueError("no images here")

    trackers = Trackers()
    monkeypatch.setitem(KINDS, "tensorboard", dataclasses.replace(kind, logs_image=refuses))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.toml").write_text("")
    (folder / "plugins.json").write_text("{}")
    (folder / "metrics.jsonl").write_text('{"step": 1, "reward": 1.0}\n{"step": 2, "reward": 0.5}\n')
    with caplog.at_level(logging.WARNING, "plugrad"):
        trackers.begin(run_in(folder, tracking={"with": ["tensorboard"]}), {}, first_step=0)
        trackers.record({"step": 2, "reward": 0.5})
        trackers.close()
        assert caplog.text.count("tensorboard does not take the picture of the run: ValueError: no images here") == 1
        (folder / "metrics.jsonl").write_text("no record\n")
        trackers.begin(run_in(folder, tracking={"with": ["tensorboard"]}), {}, first_step=0)
        trackers.record({"step": 2, "reward": 0.25})
        trackers.close()
    assert caplog.text.count("The picture of the run cannot be drawn: RunFileError") == 1
    assert len(caplog.records) == 2
    events = accumulator.EventAccumulator(str(folder / "tracking" / "tensorboard"))
    events.Reload()
    assert {event.value for event in events.Scalars("reward")} == {0.5, 0.25}


def test_tracking_changes_no_weight(tracked, tmp_path):
    alone = train(run_in(tmp_path / "alone", max_steps=3), display=Silent())
    ours, theirs = (load_file(result.model / "model.safetensors") for result in (tracked, alone))
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())


def test_without_a_login_nothing_is_loaded(home, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(RunFileError, match=r"wandb: nobody is logged in\. To log in: wandb login") as caught:
        train(run_in(tmp_path / "run", model={"name": str(tmp_path / "missing")}, tracking={"with": ["wandb"]}))
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_fails_later_is_dropped_and_said_once(home, tmp_path, write, caplog):
    write(
        "breaks.py",
        """
        import wandb
        from plugrad import hookimpl

        class Ends:
            '''Ends the run of W&B behind the back of plugrad.'''

            @hookimpl
            def on_step_end(self, step, measures):
                wandb.finish()
        """,
    )
    folder = tmp_path / "run"
    extension = [{"name": "breaks.py:Ends"}]
    tables = {"extension": extension, "search_paths": [str(tmp_path)], "max_steps": 4, "evaluation": {}}
    with caplog.at_level(logging.WARNING, "plugrad"):
        result = train(run_in(folder, tracking={"with": ["wandb", "tensorboard"]}, **tables), display=Silent())
    assert result.num_steps == 4
    assert caplog.text.count("The tracker wandb has failed") == 1
    events = accumulator.EventAccumulator(str(folder / "tracking" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("reward")] == [1, 2, 3, 4]
