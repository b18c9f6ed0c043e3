"""A run that goes on from a checkpoint ends as one that was never stopped: the same weights to the bit, the same records."""

import json
import os
import random
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import plugrad
from plugrad import ResumeError, RunFileError
from plugrad.paths import replace_bytes
from plugrad.trainer.checkpoints.checkpoint_folder import folder_of, newest_whole, steps_in
from plugrad.trainer.record import run_folder
from plugrad.trainer.record.display import Silent
from plugrad.trainer.record.history import history

STEPS, EVERY = 6, 2
PLUGINS = (Path(__file__).parents[2] / "faults" / "remembering.py").read_text()
STATEFUL = {
    "loss": [{"name": "plugins.py:Moody"}, {"name": "kl_to_reference", "weight": 0.1}],
    "advantage": {"name": "plugins.py:Running"},
    "extension": [{"name": "plugins.py:Fewer", "kwargs": {"every": 3}}],
    "updates_per_batch": 2,
}
DATASET = {"rollout": {"engine": "dataset", "prompts_per_step": 4, "rollouts_per_example": 2, "max_new_tokens": 4}}
RUNS = {
    "sampled": {},
    "evaluated, with a schedule": {"evaluation": {"every_steps": 3}, "optimizer": {"lr": 1e-3, "schedule": "cosine"}},
    "stateful plugins": STATEFUL,
    "a critic": {"advantage": {"name": "gae"}, "loss": [{"name": "ppo_clip"}, {"name": "value_clip"}], "critic": {}},
    "a loss with parameters": {"loss": [{"name": "ppo_clip"}, {"name": "plugins.py:Own"}]},
    "turns, evaluated": {
        "environment": {"name": "plugins.py:TwoTurns"},
        "rollout": {"prompts_per_step": 4, "rollouts_per_example": 2, "max_new_tokens": 3, "max_turns": 2},
        "evaluation": {"every_steps": 3},
    },
    "replayed": {**DATASET, "loss": {"name": "cross_entropy"}},
    "float32 masters of bfloat16 weights": {
        "model": {"from_scratch": {"model_type": "qwen3"}, "dtype": "bfloat16"},
        "optimizer": {"lr": 1e-4, "master_weights": True},
    },
    "gradient checkpointing and dropout": {"model": {"from_scratch": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2}}},
}
OWN = """

class Own:
    def trained(self, sizes):
        return torch.nn.Linear(4, 1, dtype=sizes.dtype)

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        return LossOutputs(inputs.trainer_logprobs**2 * inputs.parameters["weight"].square().sum())


class TwoTurns:
    def train_examples(self):
        return [{"prompt": f"{a}+1=", "reference": str(a + 1)} for a in range(8)]

    def eval_examples(self):
        return self.train_examples()[:2]

    async def play(self, example, policy):
        chat = policy.chat(example["prompt"])
        first = await chat.reply()
        chat.add("user", "+2=")
        return len({*first.text, *(await chat.reply()).text}) / 6
"""


def records_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def make(run_file, write):
    write("plugins.py", PLUGINS + OWN)
    return lambda **tables: run_file(**{"max_steps": STEPS, "checkpoint": {"every_steps": EVERY, "keep": 9}, **tables})


@pytest.fixture
def train():
    return lambda file, **options: plugrad.train(file, display=Silent(), **options)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_goes_on_ends_as_one_that_never_stopped(make, train, tmp_path, stopped_runs, name):
    whole = train(make(**RUNS[name])).folder
    assert [path.name for path in sorted((whole / "checkpoints").iterdir())] == [f"step_00000{step}" for step in (2, 4, 6)]
    first = load_file(next((folder_of(whole, 2) / "policy").iterdir()))
    last = load_file(next((folder_of(whole, 6) / "policy").iterdir()))
    assert any(not torch.equal(first[name], last[name]) for name in first)
    for step in (2, 4):
        copy = tmp_path / f"stopped_{step}"
        stopped_runs.stop_after(step, whole, copy)
        random.seed(step)
        found = train(make(**RUNS[name]).model_copy(update={"output_dir": str(copy)}), resume=True)
        assert found.num_steps == STEPS
        stopped_runs.assert_same(copy, whole)
        assert [record["step"] for record in found.records] == [record["step"] for record in records_of(whole)]


def test_without_a_checkpoint_it_begins(make, train, caplog):
    result = train(make(), resume=True)
    assert result.num_steps == STEPS
    events = [json.loads(line)["event"] for line in (result.folder / "history.jsonl").read_text().splitlines()]
    assert events == ["started", "finished"]


def test_a_run_that_was_killed_before_its_first_begins_again_and_says_so(make, train, caplog):
    folder = train(make(checkpoint={})).folder
    assert not (folder / "checkpoints").exists()
    first, _ = (folder / "history.jsonl").read_text().splitlines(keepends=True)
    (folder / "history.jsonl").write_text(first)
    train(make(checkpoint={}), resume=True)
    assert "There is no checkpoint" in caplog.text
    assert len(records_of(folder)) == STEPS
    assert [line["event"] for line in history(folder)] == ["started", "started", "finished"]
    assert (folder / "history.jsonl").read_text().startswith(first)


def test_a_run_that_is_complete_is_left_as_it_is(make, train, caplog):
    done = train(make())
    # A run that was killed left it.
    (folder_of(done.folder, 2).with_name(".step_000002.old.unfinished") / "policy").mkdir(parents=True)
    again = train(make(), resume=True)
    assert sorted(path.name for path in (done.folder / "checkpoints").iterdir()) == [
        f"step_00000{step}" for step in (2, 4, 6)
    ]
    before = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*")}
    again = train(make(), resume=True)
    assert (again.num_steps, again.records) == (STEPS, done.records)
    assert {path: path.stat().st_mtime_ns for path in done.folder.rglob("*")} == before
    assert "other settings" not in caplog.text
    kwargs = {"path": "sums.jsonl", "reward": "rewards.py:ones", "num_eval": 4}
    train(make(environment={"name": "jsonl", "kwargs": kwargs}, metrics=["reward"]), resume=True)
    assert "nothing is trained with these: environment jsonl: num_eval: 8 -> 4. For a new run" in caplog.text
    train(make(loss=[{"name": "ppo_clip"}]), resume=True)
    assert "nothing is trained with these: loss names: importance_sampling -> ppo_clip. For a new run" in caplog.text
    (done.folder / "run.toml").unlink()
    assert train(make(), resume=True).num_steps == STEPS
    assert "Whether that run had other settings cannot be told" in caplog.text


def test_it_may_go_on_for_longer(make, train):
    folder = train(make()).folder
    assert train(make(max_steps=9), resume=True).num_steps == 9
    assert [record["step"] for record in records_of(folder)] == list(range(1, 10))
    events = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [line["event"] for line in events] == ["started", "finished", "resumed", "finished"]
    assert events[2]["step"] == STEPS
    assert events[2]["changes"] == [{"what": "max_steps", "then": STEPS, "now": 9}]
    assert "max_steps = 9" in (folder / "run.toml").read_text()


def test_it_goes_on_with_the_same_files_in_another_place_and_not_with_others(make, train, tmp_path):
    folder = train(make()).folder
    (tmp_path / "elsewhere").mkdir()
    for name in ("sums.jsonl", "rewards.py"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    there = {"search_paths": [str(tmp_path / "elsewhere")]}
    assert train(make(max_steps=7, **there), resume=True).num_steps == 7
    changed = [change["what"] for change in history(folder)[-2]["changes"]]
    assert changed == ["max_steps", "search_paths"]
    rewards = tmp_path / "elsewhere" / "rewards.py"
    rewards.write_text(rewards.read_text() + "X = 1\n")
    rewards.rename(tmp_path / "rewards.py")
    with pytest.raises(ResumeError, match=r"environment jsonl: reward: .*elsewhere/rewards.py:ones -> .*\n    module rew"):
        train(make(max_steps=8, search_paths=[*there["search_paths"], str(tmp_path)]), resume=True)


def test_a_run_that_is_past_its_last_step_is_an_error(make, train):
    folder = train(make()).folder
    # As one that was killed is.
    (folder / "history.jsonl").unlink()
    with pytest.raises(ResumeError, match=r"has done 6 steps, more than max_steps = 4\. Set max_steps to 6 or more"):
        train(make(max_steps=4), resume=True)
    assert len(records_of(folder)) == STEPS


def test_a_complete_run_without_a_checkpoint_cannot(make, train):
    train(make(checkpoint={}))
    with pytest.raises(ResumeError, match=r"complete after 6 steps and kept no checkpoint(.|\n)*model.name = "):
        train(make(checkpoint={}, max_steps=9), resume=True)


def test_what_changes_the_run_is_refused_with_the_difference(make, train, write, tmp_path):
    folder = train(make(**STATEFUL)).folder
    with pytest.raises(ResumeError, match=r"from step 6(.|\n)*optimizer.lr: 0.001 -> 0.002(.|\n)*--allow-changes"):
        train(make(**STATEFUL, max_steps=8, optimizer={"lr": 2e-3}), resume=True)
    write("plugins.py", PLUGINS + OWN + "\n\nX = 1\n")
    with pytest.raises(ResumeError, match=r"sha256 of its source"):
        train(make(**STATEFUL, max_steps=8), resume=True)
    write("plugins.py", PLUGINS + OWN)
    rewards = write("rewards.py", (tmp_path / "rewards.py").read_text() + "\n\nX = 1\n")
    with pytest.raises(ResumeError, match=rf"because this changed:\n    module {rewards.name}: \w+ -> \w+\n"):
        train(make(**STATEFUL, max_steps=8), resume=True)
    assert len(records_of(folder)) == STEPS
    result = train(make(**STATEFUL, max_steps=8, optimizer={"lr": 2e-3}), resume=True, allow_changes=True)
    assert (result.num_steps, result.records[-1]["lr"]) == (8, 2e-3)
    changes = json.loads((folder / "history.jsonl").read_text().splitlines()[2])["changes"]
    assert {"max_steps", "optimizer.lr"} <= {change["what"] for change in changes}


def test_other_examples_are_refused(make, train, tmp_path):
    train(make())
    lines = (tmp_path / "sums.jsonl").read_text().splitlines()
    (tmp_path / "sums.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    with pytest.raises(ResumeError, match="the examples changed since it began"):
        train(make(max_steps=8), resume=True)


def test_another_reference_is_refused(make, train, tmp_path):
    reference = train(make(output_dir=str(tmp_path / "reference"), max_steps=1)).model
    other = train(make(output_dir=str(tmp_path / "other"), max_steps=2)).model
    tables = {
        "model": {"name": str(reference), "reference": {"name": str(reference)}},
        "loss": [{"name": "ppo_clip"}, {"name": "kl_to_reference"}],
    }
    train(make(**tables))
    shutil.copy(other / "model.safetensors", reference / "model.safetensors")
    with pytest.raises(ResumeError, match="the model behind ref_logprobs changed since it began"):
        train(make(**tables, max_steps=8), resume=True)


def test_the_newest_whole_one_is_taken(make, train, caplog):
    folder = train(make()).folder
    (folder_of(folder, 6) / "shared.pt").write_bytes(b"")
    assert newest_whole(folder).step == 4
    train(make(max_steps=7), resume=True)
    assert "step_000006 is passed over: shared.pt has changed" in caplog.text
    assert [record["step"] for record in records_of(folder)] == list(range(1, 8))


def test_a_run_whose_checkpoints_are_all_spoiled_is_kept(make, train):
    folder = train(make()).folder
    for step in steps_in(folder):
        (folder_of(folder, step) / "shared.pt").write_bytes(b"")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ResumeError, match=r"none of the 3 checkpoints in(.|\n)*--overwrite"):
        train(make(max_steps=7), resume=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_last_line_of_the_history_that_was_cut_off_costs_that_line(make, train):
    folder = train(make()).folder
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"event": "resta')
    assert train(make(max_steps=7), resume=True).num_steps == 7
    events = [line["event"] for line in history(folder)]
    assert events == ["started", "finished", "resumed", "finished"]


def test_a_run_that_was_killed_before_it_removed_old_checkpoints_removes_them(make, train):
    folder = train(make()).folder
    (folder / "history.jsonl").unlink()
    assert train(make(checkpoint={"every_steps": EVERY, "keep": 2}), resume=True).num_steps == STEPS
    assert steps_in(folder) == [6, 4]


def test_a_run_that_was_killed_while_its_folder_was_made_goes_on(make, train, monkeypatch):
    # By the record of its plugins a folder is known to be a run's.
    monkeypatch.setattr(run_folder, "as_toml", lambda run_file: sys.exit(9))
    with pytest.raises(SystemExit):
        run_folder.open_run_folder(make(), {})
    monkeypatch.undo()
    assert train(make(), resume=True).num_steps == STEPS


def test_a_run_that_is_killed_as_it_goes_on_leaves_its_run_file_whole(make, train, monkeypatch):
    folder = train(make()).folder
    before = (folder / "run.toml").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda descriptor: sys.exit(9))
    with pytest.raises(SystemExit):
        replace_bytes(folder / "run.toml", b"half")
    assert (folder / "run.toml").read_bytes() == before


def test_a_run_that_lost_its_records_goes_on_with_new_ones(make, train, caplog):
    folder = train(make()).folder
    (folder / "metrics.jsonl").unlink()
    assert [record["step"] for record in train(make(max_steps=7), resume=True).records] == [7]
    assert "has no record of the steps after 0, up to the checkpoint after step 6" in caplog.text


def test_a_state_that_runs_code_is_not_loaded(make, train, tmp_path):
    folder = train(make()).folder
    bad = folder_of(folder, 6) / "shared.pt"
    torch.save({"place": Touches(tmp_path / "touched")}, bad)
    manifest = folder_of(folder, 6) / "checkpoint.json"
    facts = json.loads(manifest.read_text())
    from plugrad.trainer.checkpoints.checkpoint_folder import sums_of

    facts["sums"].update(sums_of(bad.parent, [bad]))
    manifest.write_text(json.dumps(facts))
    with pytest.raises(ResumeError, match=r"shared.pt holds something else than plain data"):
        train(make(max_steps=7), resume=True)
    assert not (tmp_path / "touched").exists()


class Touches:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_run_folder_is_not_replaced_and_both_ways_are_said(make, train):
    train(make())
    with pytest.raises(RunFileError, match=r"already holds a run(.|\n)*--resume(.|\n)*--overwrite"):
        train(make())


def test_a_checkpoint_that_cannot_be_written_costs_the_checkpoint_and_not_the_run(make, train, write, caplog):
    write(
        "blocks.py",
        """
        from pathlib import Path
        from plugrad import hookimpl

        class Blocks:
            '''Puts a file where the checkpoints would be.'''

            @hookimpl
            def on_run_start(self, run):
                (run.folder / "checkpoints").touch()
        """,
    )
    result = train(make(extension=[{"name": "blocks.py:Blocks"}]))
    assert result.num_steps == STEPS
    assert "The checkpoint after step 2 is not written: " in caplog.text
    assert "The run goes on" in caplog.text


def test_short_runs_write_none(make, train):
    assert not (train(make(checkpoint={})).folder / "checkpoints").exists()
