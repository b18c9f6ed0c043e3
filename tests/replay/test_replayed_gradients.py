"""The gradients that `plugrad replay` finds are those of the run that left the capture."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import entry_points

import pytest
import torch

from plugrad import OptionError, PluginError, RunFile, RunFileError, TrainingError
from plugrad.config.reading import as_toml
from plugrad.contracts.where import Where
from plugrad.replay.chosen_losses import chosen_losses
from plugrad.replay.replay_outcome import replayed
from plugrad.report.report_page import report_html
from plugrad.testing.checks import Outcome, run_checks
from plugrad.testing.losses.on_capture import checks_on_capture
from plugrad.trainer.capture.capture_files import read_capture
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train

TINY = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
STEP = 2
WATCH = """
from dataclasses import replace

import torch

import plugrad

SEEN = {}


class Watch:
    '''Keeps the gradient of the objective with respect to the log-probs that each loss gets, at the second step.'''

    @plugrad.hookimpl(wrapper=True)
    def prepare_loss(self, component, inputs):
        prepared = yield
        if inputs.step != 1:
            return prepared
        rows = list(zip(inputs.group_ids.tolist(), inputs.member.tolist(), strict=True))
        own = prepared.trainer_logprobs.clone()
        own.register_hook(
            lambda gradient: SEEN.update({(component.label, *key): gradient[row].clone() for row, key in enumerate(rows)})
        )
        return replace(prepared, trainer_logprobs=own)

    @plugrad.hookimpl
    def on_run_end(self, run):
        torch.save(SEEN, run.folder / f"seen_{run.rank}.pt")
"""
OWN = """
import torch

import plugrad


@plugrad.loss(needs={'reward'}, whole_batch=True, policy_gradient=False)
def pairs(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
    totals = (inputs.trainer_logprobs * inputs.loss_mask).sum(dim=1)
    same = inputs.group_ids[:, None] == inputs.group_ids[None]
    better = same & (inputs.reward[:, None] > inputs.reward[None])
    lead = totals[:, None] - totals[None]
    return plugrad.LossOutputs(torch.where(better, -torch.nn.functional.logsigmoid(lead), 0.0).sum(dim=1))


@plugrad.loss(whole_batch=True, policy_gradient=False)
def drawn(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
    return plugrad.LossOutputs(-torch.rand(inputs.loss_mask.shape) * inputs.trainer_logprobs * inputs.loss_mask)


@plugrad.loss(whole_batch=True, policy_gradient=False)
def drawn_next(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
    return plugrad.LossOutputs(-torch.rand(inputs.loss_mask.shape) * inputs.trainer_logprobs * inputs.loss_mask)
"""
LACKING = """
import plugrad


@plugrad.loss(needs={'logits'})
def wide(inputs: plugrad.LossInputs) -> plugrad.LossOutputs: ...


@plugrad.loss(needs={'values'})
def deep(inputs: plugrad.LossInputs) -> plugrad.LossOutputs: ...
"""
BROKEN = """
import plugrad


@plugrad.loss(policy_gradient=True)
def upside_down(inputs: plugrad.LossInputs) -> plugrad.LossOutputs:
    return plugrad.LossOutputs(inputs.advantages * inputs.trainer_logprobs * inputs.loss_mask)


@plugrad.loss
def mean(inputs: plugrad.LossInputs) -> plugrad.LossOutputs:
    return plugrad.LossOutputs(-(inputs.advantages.sum() * inputs.trainer_logprobs).mean())
"""
MASKING = """
import plugrad


@plugrad.loss(needs={'input_ids'})
def halved(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
    kept = (inputs.input_ids % 2 == 0).float()
    return plugrad.LossOutputs(-kept * inputs.advantages * inputs.trainer_logprobs * inputs.loss_mask)


@plugrad.loss(needs={'input_ids'})
def likelier(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
    kept = (inputs.input_ids % 2 == 0).float()
    return plugrad.LossOutputs(-kept * inputs.trainer_logprobs * inputs.loss_mask)


def rooted(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
    nothing = inputs.trainer_logprobs - inputs.trainer_logprobs.detach()
    return plugrad.LossOutputs(0 * nothing.abs().sqrt() * inputs.loss_mask)
"""


def losses_of_the_papers():
    found = entry_points(group="plugrad.losses")
    return sorted(entry.name for entry in found if entry.value.startswith("plugrad_policy."))


def made_in(folder):
    """A run with every loss of plugrad-policy, each with a weight of its own, one for some examples, and one of pairs."""
    lines = [
        {
            "prompt": f"{i}+{j}=",
            "reference": str(i + j),
            "task": "even" if i % 2 else "odd",
            "teacher_prompt": f"{i + j}={i}+{j}=",
        }
        for i in range(4)
        for j in range(4)
    ]
    (folder / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "rewards.py").write_text("def few(completion, example):\n    return len(set(completion)) / 4\n")
    (folder / "watching.py").write_text(WATCH)
    (folder / "own_losses.py").write_text(OWN)
    losses = [{"name": f"plugrad-policy/{name}", "weight": 0.1 + 0.05 * n} for n, name in enumerate(losses_of_the_papers())]
    losses[0]["where"] = {"task": "odd"}
    losses += [{"name": f"own_losses.py:{name}", "weight": 0.7} for name in ("pairs", "drawn", "drawn_next")]
    losses += [{"name": "entropy_bonus", "weight": 0.2}]
    return RunFile(
        output_dir=str(folder / "run"),
        search_paths=[str(folder)],
        max_steps=2,
        model={"from_scratch": TINY, "dtype": "float64", "teacher": {"policy": True}},
        environment={"name": "jsonl", "kwargs": {"path": "sums.jsonl", "reward": "rewards.py:few"}},
        rollout={"prompts_per_step": 4, "rollouts_per_example": 3, "max_new_tokens": 5},
        tokens_per_micro_batch=32,
        loss=losses,
        extension=[{"name": "watching.py:Watch"}],
        optimizer={"lr": 3e-2},
        capture={"steps": [STEP]},
        metrics=[],
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The result of such a run, and the gradients that it saw."""
    result = train(made_in(tmp_path_factory.mktemp("captured")), display=Silent())
    return result, torch.load(result.folder / "seen_0.pt")


@pytest.fixture(scope="module")
def capture(run):
    return read_capture(run[0].folder / "captures" / f"step_{STEP:06d}")


@pytest.fixture(scope="module")
def found(capture):
    return replayed(capture, chosen_losses(capture))


def rows_of(capture, loss):
    """The gradient of a replayed loss with respect to the log-probs, by group and member."""
    return {
        key: gradient[row]
        for place, piece in enumerate(capture.updates[0].pieces)
        for gradient in [loss.of_logprobs(0, place, piece.inputs.trainer_logprobs)]
        for row, key in enumerate(zip(piece.inputs.group_ids.tolist(), piece.inputs.member.tolist(), strict=True))
    }


def assert_as_in_the_run(capture, found, seen):
    """Compare to the bit; return the labels of the losses that move log-probs."""
    moved = set()
    for loss in found.losses:
        for key, row in rows_of(capture, loss).items():
            in_the_run = seen.get((loss.label, *key), torch.zeros(1))
            width = max(len(row), len(in_the_run))
            ours, theirs = (torch.nn.functional.pad(each, (0, width - len(each))) for each in (row, in_the_run))
            assert torch.equal(ours, theirs), (loss.label, key)
            if bool(ours.any()):
                moved.add(loss.label)
    return moved


def test_every_loss_has_the_gradient_that_it_had_in_the_run(run, capture, found):
    assert len(capture.updates[0].pieces) > 1
    assert {loss.label for loss in found.losses} > set(losses_of_the_papers())
    moved = assert_as_in_the_run(capture, found, run[1])
    # A bonus on entropies moves no log-prob.
    assert {loss.label for loss in found.losses} - moved <= {"entropy_bonus", "entropy_quantile_bonus"}


@pytest.mark.slow
def test_two_ranks_leave_one_capture_with_the_gradients_of_both(tmp_path):
    file = made_in(tmp_path)
    (tmp_path / "run.toml").write_bytes(as_toml(file))
    command = [sys.executable, "-m", "plugrad", "train", str(tmp_path / "run.toml"), "--num-processes", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    capture = read_capture(tmp_path / "run" / "captures" / f"step_{STEP:06d}")
    assert capture.facts["num_ranks"] == 2
    assert len(capture.facts["rollouts"]) == 12
    found = replayed(capture, chosen_losses(capture))
    whole = {loss.label for loss in found.losses if loss.loss.facts.whole_batch}
    seen = {}
    for rank in range(2):
        for key, row in torch.load(tmp_path / "run" / f"seen_{rank}.pt").items():
            # DDP averages over the ranks where the formula sums, so that each rank's gradient is doubled before.
            seen[key] = row if key[0] in whole else row / 2
    assert len(assert_as_in_the_run(capture, found, seen)) > 15


def test_every_loss_has_the_value_that_the_run_reported(run, found):
    record = run[0].records[STEP - 1]
    for loss in found.losses:
        assert loss.value == pytest.approx(record[f"{loss.label}/loss"], rel=1e-12), loss.label


def test_the_table_of_tokens_says_what_the_losses_read_and_do(capture, found):
    table = found.table.to_json()
    norms = {each["label"]: each["gradient_norms"] for each in found.to_json()["losses"]}
    assert norms["entropy_bonus"]["entropy"] > 0
    json.dumps(table, allow_nan=False)
    assert len(table["sequences"]) == 12
    first = table["sequences"][0]
    lengths = {
        len(each) for each in (*first["values"].values(), *first["marks"].values(), first["tokens"], first["counted"])
    }
    assert len(lengths) == 1
    assert "".join(first["tokens"]).startswith(capture.facts["rollouts"][0]["prompt"])
    counted = first["counted"].index(True)
    assert counted == first["prompt_length"]
    assert first["values"]["ratio"][counted] == pytest.approx(1)
    assert first["values"]["advantage"][0] is None
    assert {"advantage", "entropy", "mismatch", "gradient: gspo"} <= first["values"].keys()
    assert {"masked", "clipped: gspo"} <= first["marks"].keys()


def test_what_a_loss_masks_is_marked_and_what_its_where_leaves_out_is_not(capture, tmp_path):
    file = tmp_path / "masking.py"
    file.write_text(MASKING)
    halved, likelier = chosen_losses(capture, [f"{file}:halved", f"{file}:likelier"])
    # The capture has the counts of the run's loss with this where.
    label = capture.facts["losses"][0]["label"]
    some = replace(halved, label=label, where=Where.of({"task": "odd"}))
    table = replayed(capture, [halved, replace(halved, label="negative", weight=-1.0), likelier, some]).table
    told = capture.rollouts
    expected = {"halved": [], "likelier": [], label: []}
    for sequence in table.sequences:
        task = told[sequence.group, sequence.member]["example"]["task"]
        gradients, advantages = sequence.values["gradient: halved"], sequence.values["advantage"]
        masked = [gradient == 0 and advantage != 0 for gradient, advantage in zip(gradients, advantages, strict=True)]
        expected["halved"] += masked
        expected[label] += [each and task == "odd" for each in masked]
        expected["likelier"] += [False] * len(masked)
    assert 0 < sum(expected[label]) < sum(expected["halved"]) < len(expected["halved"])
    expected["negative"] = expected["halved"]
    for name, marks in expected.items():
        assert [mark for sequence in table.sequences for mark in sequence.marks[f"clipped: {name}"]] == marks, name


def test_a_report_of_several_runs_says_whose_capture_it_shows(run, tmp_path):
    folder = run[0].folder
    other = shutil.copytree(folder, tmp_path / "other")
    title = f"step_{STEP:06d}"
    assert re.findall(r'"title": ?"([^"]*step_[^"]*)"', report_html([folder])) == [title]
    found = re.findall(r'"title": ?"([^"]*step_[^"]*)"', report_html([folder, other]))
    assert found == [f"{folder.name}: {title}", f"other: {title}"]


def test_tokens_whose_gradient_is_not_finite_are_named(capture, tmp_path):
    file = tmp_path / "masking.py"
    file.write_text(MASKING)
    found = replayed(capture, chosen_losses(capture, [f"{file}:rooted"]))
    (loss,) = found.losses
    pushed = found.not_finite(loss)
    assert pushed
    assert all(each.sequence.values["gradient: rooted"][each.place] != 0 for each in pushed)
    assert found.hardest(loss, up=True) + found.hardest(loss, up=False) == []
    (told,) = found.to_json()["losses"]
    assert told["not_finite"][0]["gradient"] == "nan"
    with pytest.raises(TrainingError, match=r"turn the policy into NaN\. Look at the tokens above"):
        found.check_finite()


def test_the_tokens_that_are_raised_have_advantages(capture):
    (loss,) = chosen_losses(capture, ["dr_grpo"])
    found = replayed(capture, [loss])
    for up in (True, False):
        hardest = found.hardest(found.losses[0], up=up)
        assert hardest
        for pushed in hardest:
            advantage = pushed.sequence.values["advantage"][pushed.place]
            assert (advantage > 0) == up
            assert (pushed.gradient < 0) == up
        sizes = [abs(pushed.gradient) for pushed in hardest]
        assert sizes == sorted(sizes, reverse=True)


def test_options_are_set_for_all_losses_that_have_them_or_for_one(capture):
    by_label = {loss.label: loss for loss in chosen_losses(capture, ["cispo", "dual_clip"], {"cispo.clip_high": 0.5})}
    assert by_label["cispo"].component.options["clip_high"] == 0.5
    [its] = [each for each in capture.facts["losses"] if each["label"] == "cispo"]
    assert by_label["cispo"].weight == its["weight"]
    with pytest.raises(OptionError, match=r"none of the losses cispo has such an option\. Did you mean 'clip_high'"):
        chosen_losses(capture, ["cispo"], {"clip_hihg": 0.5})


def test_the_same_gradient_agrees_and_the_opposite_one_does_not(capture):
    again, against = chosen_losses(capture, ["dr_grpo", "plugrad-policy/dr_grpo"])
    opposed = replayed(capture, [again, replace(against, weight=-2.0)])
    assert opposed.cosines == {("dr_grpo", "dr_grpo_2"): pytest.approx(-1)}


def test_a_loss_that_needs_what_a_capture_lacks_is_refused_with_the_reason(capture, tmp_path):
    file = tmp_path / "lacking.py"
    file.write_text(LACKING)
    with pytest.raises(PluginError, match="a capture leaves out logits"):
        chosen_losses(capture, [f"{file}:wide"])
    with pytest.raises(PluginError, match="it needs values, which the run did not compute"):
        chosen_losses(capture, [f"{file}:deep"])


def test_what_is_no_capture_or_was_cut_off_is_said(run, tmp_path):
    with pytest.raises(RunFileError, match=r"holds no capture: it has no capture\.json"):
        read_capture(run[0].folder)
    shutil.copytree(run[0].folder / "captures" / f"step_{STEP:06d}", tmp_path / "cut")
    tensors, facts = (tmp_path / "cut" / f"capture.{kind}" for kind in ("safetensors", "json"))
    whole = tensors.read_bytes()
    flipped = whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]
    for damaged in (whole[:-100], flipped):
        tensors.write_bytes(damaged)
        with pytest.raises(RunFileError, match=r"capture\.safetensors has changed since it was written"):
            read_capture(tmp_path / "cut")
    tensors.write_bytes(whole)
    facts.write_text(facts.read_text().replace('"step": 1', '"step": 2', 1))
    with pytest.raises(RunFileError, match=r"capture\.json has changed since it was written"):
        read_capture(tmp_path / "cut")
    (tmp_path / "cut" / "sums.json").unlink()
    with pytest.raises(RunFileError, match=r"it has no sums\.json"):
        read_capture(tmp_path / "cut")


@pytest.mark.parametrize("name", ["gspo", "clip_cov", "dual_clip", "entropy_bonus", "kl_cov"])
def test_losses_keep_their_promises_on_a_captured_batch(capture, name):
    results = run_checks(list(checks_on_capture(name, capture)))
    assert [str(result.check) for result in results if result.is_bad] == []
    assert sum(result.outcome is Outcome.KEPT for result in results) >= 6


def test_a_broken_promise_shows_on_a_captured_batch(capture, tmp_path):
    file = tmp_path / "broken.py"
    file.write_text(BROKEN)
    failed = {}
    for name in ("upside_down", "mean"):
        results = run_checks(list(checks_on_capture(f"{file}:{name}", capture)))
        failed[name] = {result.check.name for result in results if result.is_bad}
    assert "advantage_sign" in failed["upside_down"]
    assert {"padding", "gradient_flow"} & failed["mean"]
