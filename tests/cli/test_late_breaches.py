"""A contract holds for the whole run: whoever breaks it later ends the run with its name, and the model is saved."""

import json
import shutil
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.usefixtures("quick_starts")

HERE = Path(__file__).parent
UNCHANGED = "of its inputs in place"

LOSSES = {
    "calls_backward": "calls backward() itself. Return the loss",
    "calls_backward_per_sequence": "calls backward() itself. Return the loss",
    "uses_up_the_graph": "calls backward() itself. Return the loss",
    "detached": "returned a loss without gradient",
    "detached_for_one_sequence": "returned a loss without gradient",
    "changes_inputs": f"changed 'inference_logprobs' {UNCHANGED}",
    "metric_is_text": "returned the metric 'gap': a metric must be a number",
    "metric_changes_its_type": "returned the metric 'gap': 'metric_changes_its_type/gap' was a Mean and is now a Sum",
    "sets_the_default_dtype": "set torch's default dtype to torch.float64",
    "switches_gradients_off": "switched torch's gradients off and left them so",
}
EXTENSIONS = {
    "CountsPrompts": "its prepare_loss set loss_mask to True where no token counted",
    "Detaches": "its prepare_loss returned trainer_logprobs without gradient",
    "DetachesTheLoss": "returned a loss without gradient",
    "CallsBackward": "calls backward() itself",
    "ChangesInputs": f"changed 'advantages' {UNCHANGED}",
    "ChangesRollouts": f"changed 'rollouts' {UNCHANGED}",
    "VetoesWithNumpy": "before_update returned bool; return True, False or None",
    "MetricIsText": "added 'mine': a metric must be a number",
}
ENVIRONMENTS = {
    "empties log-probs": f"changed 'inference_logprobs' {UNCHANGED}",
    "changes a log-prob": f"changed 'inference_logprobs' {UNCHANGED}",
    "no log-probs": f"changed 'inference_logprobs' {UNCHANGED}",
    "appends to the completion": f"changed 'completion_ids' {UNCHANGED}",
    "appends to the prompt": f"changed 'prompt_ids' {UNCHANGED}",
    "an array": f"changed 'completion_ids' {UNCHANGED}",
    "deletes the completion": f"changed 'completion_ids' {UNCHANGED}",
    "deletes the example": f"changed 'example' {UNCHANGED}",
    "writes into the example": f"changed 'example' {UNCHANGED}",
    "another text": f"changed 'completion' {UNCHANGED}",
    "clears everything": f"changed 'prompt' {UNCHANGED}",
    "drops a rollout": f"changed 'rollouts' {UNCHANGED}",
    "sorts": f"changed 'rollouts' {UNCHANGED}",
    "replaces a rollout": f"changed 'rollouts' {UNCHANGED}",
    "metrics none": "set rollout['metrics'] to NoneType",
    "metrics list": "set rollout['metrics'] to list",
    "metrics text": "set the metric 'length' to 'long', which is not a finite number",
    "metrics array": "set the metric 'length' to ndarray, which is not a finite number",
    "metrics nan": "set the metric 'length' to nan, which is not a finite number",
    "metrics number": "set a metric named 3",
    "empty mapping": "returned the reward an empty mapping",
    "unnamed": "returned the reward a component named 1",
    "infinite sum": "returned the reward inf, which is not a finite number",
    "huge": "which is not a finite number",
    "endless": "returned 17 scores for 16 rollouts; return one each",
    "a mapping": "returned dict for 16 rollouts; return one each",
    "scalar": "returned float64 for 16 rollouts; return one each",
    "set": "returned set for 16 rollouts; return one each",
    "asynchronous": "returned coroutine: it is asynchronous",
    "asynchronous scores": "It is asynchronous: await it.",
}


@pytest.fixture
def train(plugrad, folder):
    shutil.copy(HERE / "late.py", folder / "late.py")

    def call(*overrides):
        settings = ["max_steps=4", "tokens_per_micro_batch=40", *overrides]
        return plugrad("train", "run.toml", *(word for setting in settings for word in ("--set", setting)))

    return call


def assert_ended(done, folder, num_steps, message):
    assert done.returncode == 1, done.stdout + done.stderr
    assert message in " ".join(done.stderr.split())
    assert f"({folder / 'late.py'})" in done.stderr
    records = (folder / "runs" / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(records) == num_steps
    assert (folder / "runs" / "run" / "model" / "config.json").is_file()
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss(train, folder, name):
    assert_ended(train(f"loss.name=late.py:{name}"), folder, 2, f"'{name}' ({folder / 'late.py'}) {LOSSES[name]}")


@pytest.mark.parametrize("name", EXTENSIONS)
def test_an_extension(train, folder, name):
    assert_ended(train(f"extension=[{{name='late.py:{name}'}}]"), folder, 2, EXTENSIONS[name])


@pytest.mark.parametrize("wrong", ENVIRONMENTS)
def test_an_environment(train, folder, wrong):
    done = train(f"environment={{name='late.py:Environment', kwargs={{wrong='{wrong}'}}}}")
    assert_ended(done, folder, 2, ENVIRONMENTS[wrong])


@pytest.mark.parametrize("wrong", ["metrics text", "deletes the completion", "empty mapping"])
def test_an_environment_that_breaks_it_at_once_is_refused_before_a_model_loads(train, folder, wrong):
    done = train(f"environment={{name='late.py:Environment', kwargs={{wrong='{wrong}', first=1}}}}")
    assert done.returncode == 2
    assert ENVIRONMENTS[wrong].replace("16", "8") in done.stderr
    assert not (folder / "runs").exists()


def test_an_advantage(train, folder):
    assert_ended(train("advantage.name=late.py:Changes"), folder, 2, f"changed 'rollouts' {UNCHANGED}")


def test_a_loss_may_be_switched_off_and_metrics_may_have_gaps(train, folder):
    done = train("loss=[{name='late.py:switched_off_later'}, {name='late.py:metrics_with_gaps'}]")
    assert done.returncode == 0, done.stderr
    first, second, *_ = map(json.loads, (folder / "runs" / "run" / "metrics.jsonl").read_text().splitlines())
    assert "metrics_with_gaps/none" not in first
    assert first["metrics_with_gaps/numpy"] == 0.5
    assert first["metrics_with_gaps/cut"] == 1.0
    assert "metrics_with_gaps/late" not in first
    assert second["metrics_with_gaps/late"] == 1.0


def test_a_metric_that_is_nan_is_named_once(train):
    done = train("loss.name=late.py:metric_that_is_nan")
    assert done.returncode == 0, done.stderr
    (note,) = [line for line in done.stderr.splitlines() if "is nan at step" in line]
    assert "The metric 'metric_that_is_nan/gap' is nan at step 2" in note
