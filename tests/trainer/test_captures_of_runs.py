"""What a run captures: the steps that were asked for, and the update that failed. None of it costs the run."""

import json
import logging
import shlex

import pytest
import torch
from typer.testing import CliRunner

from plugrad import ContractError, TrainingError
from plugrad.cli.main import app
from plugrad.policy.reductions import Counts, RowCounts
from plugrad.testing import loss_inputs
from plugrad.trainer.capture.capture_files import read_capture
from plugrad.trainer.capture.watch import Watch
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train
from plugrad.trainer.update.run_progress import Progress
from plugrad.trainer.update.weighted_losses import Rows

FAILING = """
import torch

import plugrad


@plugrad.loss
def raises(inputs: plugrad.LossInputs, at: int = 1) -> plugrad.LossOutputs:
    if inputs.step == at:
        raise ZeroDivisionError("three is too many")
    return plugrad.LossOutputs(-inputs.advantages * inputs.trainer_logprobs * inputs.loss_mask)


@plugrad.loss(whole_batch=True)
def raises_on_all(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
    if inputs.step == 1:
        raise ZeroDivisionError(f"{len(inputs.loss_mask)} are too many")
    return plugrad.LossOutputs(-inputs.advantages * inputs.trainer_logprobs * inputs.loss_mask)


@plugrad.loss
def turns_into_nan(inputs: plugrad.LossInputs) -> plugrad.LossOutputs:
    scale = (inputs.trainer_logprobs - inputs.trainer_logprobs).sqrt() if inputs.step == 1 else 1.0
    return plugrad.LossOutputs(-inputs.advantages * inputs.trainer_logprobs * scale * inputs.loss_mask)


class Counting:
    '''Keeps how many updates there were.'''

    def __init__(self) -> None:
        self.updates = 0

    def __call__(self, inputs: plugrad.LossInputs) -> plugrad.LossOutputs:
        if self.updates == 1:
            raise ZeroDivisionError("after one update")
        return plugrad.LossOutputs(-inputs.advantages * inputs.trainer_logprobs * inputs.loss_mask)

    def after_update(self, measures):
        self.updates += 1

    def state_dict(self):
        return {"updates": self.updates}

    def load_state_dict(self, state):
        self.updates = state["updates"]
"""


@pytest.fixture
def failing(run_file, tmp_path, monkeypatch):
    """Train with a loss that fails in the second step; return its error, and the command that the error names."""
    (tmp_path / "failing.py").write_text(FAILING)
    monkeypatch.chdir(tmp_path)

    def fail(name, expected=ContractError, **tables):
        losses = [{"name": "ppo_clip"}, {"name": f"failing.py:{name}", "weight": 0.5}]
        with pytest.raises(expected) as raised:
            train(run_file(loss=losses, **tables), display=Silent())
        notes = raised.value.__notes__
        assert "failed_step_000002" in notes[0]
        words = shlex.split(notes[1])
        assert words[:2] == ["plugrad", "replay"]
        return raised.value, words[1:]

    return fail


def replay(words):
    return CliRunner().invoke(app, words)


@pytest.mark.parametrize("name", ["raises", "raises_on_all", "Counting"])
def test_the_command_that_a_failed_run_names_fails_in_the_same_way(failing, name, tmp_path):
    error, words = failing(name)
    again = replay(words)
    assert again.exit_code == 2
    assert words[-2:] == ["--loss", name]
    # The first line is the same, with the same line of the author's file.
    assert str(error) in again.stderr
    # Another loss does not fail on the same batch, and its pushes can be looked at.
    view = tmp_path / "view.html"
    assert replay([*words[:-1], "ppo_clip", "--html", str(view)]).exit_code == 0
    assert "gradient: ppo_clip" in view.read_text()


def test_a_gradient_that_is_nan_is_nan_again(failing):
    _, words = failing("turns_into_nan", TrainingError, updates_per_batch=2)
    again = replay(words)
    assert again.exit_code != 0
    assert "the loss turns_into_nan is 0.0 and the norm of its gradient nan" in " ".join(again.stderr.split())


ADVANTAGES = """
import plugrad


@plugrad.advantage
def divides(inputs: plugrad.AdvantageInputs, fails: bool = True) -> plugrad.AdvantageOutputs:
    rollouts = [rollout for group in inputs.rollouts for rollout in group]
    if fails and any(2 in rollout["policy_versions"] for rollout in rollouts):
        lengths = [len(rollout["completion_ids"]) for rollout in rollouts]
        summed = sum(sum(rollout["inference_logprobs"]) for rollout in rollouts)
        raise ZeroDivisionError(f"{lengths} {summed} {inputs.rewards.tolist()} {rollouts[3]['example']['prompt']}")
    return plugrad.AdvantageOutputs(inputs.rewards - inputs.rewards.mean())


class Doubles:
    '''Doubles every reward.'''

    @plugrad.hookimpl(wrapper=True)
    def prepare_advantages(self, inputs):
        inputs = yield
        return dataclasses.replace(inputs, rewards=inputs.rewards * 2)


class Breaks:
    '''Raises after the losses.'''

    @plugrad.hookimpl(wrapper=True)
    def compute_metrics(self, inputs):
        measures = yield
        return measures if inputs.step < 1 else 1 / 0
"""


def test_an_advantage_that_fails_leaves_all_that_it_was_given(run_file, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(f"import dataclasses\n{ADVANTAGES}")
    monkeypatch.chdir(tmp_path)
    file = run_file(advantage={"name": "own.py:divides"}, extension=[{"name": "own.py:Doubles"}])
    with pytest.raises(ContractError) as raised:
        train(file, display=Silent())
    about, command = raised.value.__notes__
    assert about.startswith("What the advantage was given is in run/captures/failed_step_000003. To see the failure again")
    words = shlex.split(command)[1:]
    again = replay(words)
    assert again.exit_code == 2
    # The message has every reward, sums of log-probs and a text: the inputs are the same to the last digit.
    assert str(raised.value) in again.stderr
    # Mended, with an option or in the file, or another one: it is shown what it makes of the batch.
    mended = json.loads(replay([*words, "--set", "fails=false", "--json"]).stdout)
    assert [len(group) for group in mended["advantages"]] == [4] * 4
    given = read_capture(tmp_path / words[1]).given
    assert mended["rewards"] == (2 * given.rewards).tolist()
    other = replay([*words, "--advantage", "group_mean"])
    assert other.exit_code == 0
    assert "group_mean has not failed here" in other.stdout
    assert str(raised.value).splitlines()[0] in other.stdout
    # No loss has seen it.
    for refused in (
        replay([*words, "--loss", "ppo_clip"]),
        CliRunner().invoke(app, ["check", "ppo_clip", "--on", words[1]]),
    ):
        assert refused.exit_code == 2
        assert "no loss has seen the batch of step 3: the run failed in its advantage" in " ".join(refused.stderr.split())


def test_what_a_replay_does_not_call_is_not_said_to_fail_again(run_file, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(f"import dataclasses\n{ADVANTAGES}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContractError) as raised:
        train(run_file(extension=[{"name": "own.py:Breaks"}]), display=Silent())
    about, command = raised.value.__notes__
    assert about.startswith("What the losses saw is in run/captures/failed_step_000002. To look at it")
    words = shlex.split(command)[1:]
    assert replay(words).exit_code == 0
    refused = replay([*words, "--advantage", "group_mean"])
    assert refused.exit_code == 2
    assert "no rollouts for an advantage" in " ".join(refused.stderr.split())


def test_no_capture_of_a_failure_is_taken_if_nobody_wants_it(run_file, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    with pytest.raises(ContractError) as raised:
        train(run_file(loss={"name": "failing.py:raises"}, capture={"on_failure": False}), display=Silent())
    assert not hasattr(raised.value, "__notes__")
    assert not (tmp_path / "run" / "captures").exists()


def test_a_step_is_captured_update_by_update_and_0_is_the_first(run):
    result = run(capture={"steps": [0, 2]}, updates_per_batch=2, loss={"name": "ppo_clip"})
    folder = result.folder / "captures"
    assert {path.name for path in folder.iterdir()} == {"step_000001", "step_000002"}
    found = read_capture(folder / "step_000002")
    assert [update.version for update in found.updates] == [2, 3]
    assert found.facts["step"] == 2
    assert found.facts["run_file"]["loss"][0]["name"] == "ppo_clip"
    assert len(found.rollouts) == 16
    # No loss reads entropies, and one that is tried later may.
    assert {"entropy", "old_logprobs", "reward", "input_ids", "group_ids"} <= found.updates[0].fields
    assert not found.updates[0].pieces[0].inputs.trainer_logprobs.requires_grad
    printed = json.loads(replay(["replay", str(folder / "step_000002"), "--json"]).stdout)
    assert printed["losses"][0]["value"] == pytest.approx(result.records[1]["ppo_clip/loss"])
    assert len(printed["sequences"]) == 16


def test_a_capture_that_cannot_be_written_does_not_cost_the_run(run_file, tmp_path, monkeypatch, caplog):
    folder = tmp_path / "run"

    class InTheWay(Silent):
        def start(self, *_):
            (folder / "captures").write_text("in the way")

    with caplog.at_level(logging.WARNING, "plugrad"):
        result = train(run_file(capture={"steps": [1]}), display=InTheWay())
    assert result.num_steps == 3
    assert "The batch of step 1 is not captured" in caplog.text


def test_a_resumed_run_takes_the_later_captures_again_and_may_take_others(run_file, stopped_runs, tmp_path):
    checkpoint = {"every_steps": 1, "keep": 5}
    whole = train(run_file(capture={"steps": [1, 3]}, checkpoint=checkpoint), display=Silent())
    copy = tmp_path / "copy"
    stopped_runs.stop_after(2, whole.folder, copy)
    first = (copy / "captures" / "step_000001" / "capture.json").stat().st_mtime_ns
    file = run_file(capture={"steps": [1, 4]}, checkpoint=checkpoint, output_dir=str(copy), max_steps=4)
    train(file, display=Silent(), resume=True)
    assert {path.name for path in (copy / "captures").iterdir()} == {"step_000001", "step_000004"}
    assert (copy / "captures" / "step_000001" / "capture.json").stat().st_mtime_ns == first


def test_what_is_held_for_a_failure_is_no_copy():
    inputs = loss_inputs([3, 2])
    given = RowCounts(inputs.loss_mask.sum(dim=1), inputs.loss_mask.sum(dim=1))
    rows = Rows(inputs, given, Counts(5, 2, 2, 4), all_count=True)
    watch = Watch()
    watch.begin([], Progress(0, 1))
    with watch.passing(rows):
        assert watch.in_hand.inputs.hidden_states is not None
    (kept,) = watch.updates[0].seen
    assert kept.inputs.hidden_states is None
    shared = {name for name, value in vars(kept.inputs).items() if isinstance(value, torch.Tensor)}
    assert {"trainer_logprobs", "advantages"} <= shared
    for name in shared:
        assert getattr(kept.inputs, name).data_ptr() == getattr(inputs, name).data_ptr()
    assert watch.in_hand is None
    watch.clear()
    assert not watch.updates
