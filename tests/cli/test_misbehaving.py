"""Components that misbehave, each tried through the command line: named, explained, and no traceback of ours."""

import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent

LOSSES = {
    "returns_none": "returned NoneType; a loss returns plugrad.LossOutputs",
    "returns_a_tensor": "returned Tensor; a loss returns plugrad.LossOutputs",
    "wrong_shape": "returned a loss of shape (1,) for a sequence of 3 tokens; return a scalar",
    "wrong_dtype": "returned a loss of torch.int64, which has no gradient",
    "wrong_device": "returned a loss on meta, but its inputs are on cpu. Create new tensors there",
    "without_gradient": "returned a loss without gradient. Compute it from inputs.trainer_logprobs",
    "not_finite": "returned nan for ordinary log-probs",
    "raises": "raised KeyError: 'oh no'",
    "changes_inputs": "changed 'advantages' of its inputs in place. Other components receive the same inputs.",
    "calls_backward": "calls backward() itself. Return the loss",
    "hangs": "did not return within 0.5 s. If it is only slow the first time, raise preflight_timeout_s",
    "takes_nothing": "takes no inputs. The first parameter of a loss is its inputs; the others are its options",
    "takes_options_alone": "takes no inputs. The first parameter of a loss is its inputs",
    "number": "which is not callable but of type int. Point to a function or a class",
    "nothing_there": "has no 'nothing_there'.",
    "batch_scalar": "returned a scalar. The denominator behind a scalar would depend on",
    "batch_changes_inputs": "changed 'inference_logprobs' of its inputs in place",
    "batch_calls_backward": "calls backward() itself. Return the loss",
}
ADVANTAGES = {
    "advantage_none": "returned NoneType; an advantage returns plugrad.AdvantageOutputs",
    "advantage_shape": "returned advantages of shape (1, 4); the inputs have (2, 4)",
    "advantage_dtype": "plugrad.AdvantageOutputs was given advantages = a tensor of complex64 of shape [2, 4]. It takes",
    "advantage_device": "returned advantages on meta, but its inputs are on cpu. Return them there (.cpu())",
    "advantage_nan": "returned an advantage that is not finite for example 0",
    "advantage_raises": "raised KeyError: 'oh no'",
    "advantage_changes_rewards": "changed 'rewards' of its inputs in place",
    "advantage_changes_rollouts": "changed 'rollouts' of its inputs in place",
    "advantage_hangs": "did not return within 0.5 s",
}
METRICS = {
    "metric_none": "returned NoneType; a metric returns a mapping",
    "metric_text": "returned 'a': a metric must be a number, a scalar or 1-D tensor, or a Measure, and this is a str",
    "metric_matrix": "of shape [8, 7]",
    "metric_raises": "raised AttributeError: 'MetricInputs' object has no attribute 'nothing'",
    "metric_changes_inputs": "changed 'rewards' of its inputs in place",
    "metric_hangs": "did not return within 0.5 s",
}
ENVIRONMENTS = {
    "no list": ".train_examples() returned NoneType; return a list of examples",
    "no prompt": "example 0 is a mapping with the columns question; an example is a mapping with a column 'prompt'",
    "raises": "raised RuntimeError: the judge is down",
    "hangs": "did not return within 0.5 s",
    "changes": "changed 'completion' of its inputs in place",
    "no scores": ".score returned NoneType for 8 rollouts; return one each",
    "too few": ".score returned 7 scores for 8 rollouts; return one each",
    "none": "returned the reward None, which is not a finite number, for the completion '2' of example 0",
    "component none": "returned the reward component 'form' as None, which is not a finite number, for the completion '2'",
    "nan": "returned the reward nan, which is not a finite number, for the completion '2' of example 0",
    "infinite": "returned the reward inf, which is not a finite number",
    "text": "returned the reward '1.5', which is not a finite number",
}
EXTENSIONS = {
    "NoHook": "implements no hook. Mark its methods with @plugrad.hookimpl",
    "Misspelt": "implements 'before_updat', which is no hook. Did you mean 'before_update'?",
    "UnknownArgument": "cannot be registered: ",
    "ReturnsNothing": "prepare_loss returned NoneType; it must return BatchLossInputs",
    "ReturnsScalar": "returned a scalar. The denominator behind a scalar would depend on",
    "Raises": "in its before_update raised ValueError: oh no",
    "Hangs": "did not return within 0.5 s",
    "ChangesInputs": "changed 'advantages' of its inputs in place",
    "CallsBackward": "calls backward() itself",
    "NeverYields": "in its prepare_loss raised RuntimeError: ",
    "FailsLater": "in its on_run_start raised OSError: the tracker refused",
}
SELECTING = {
    "loss": lambda name: ["loss.name=misbehaving.py:" + name],
    "advantage": lambda name: ["advantage.name=misbehaving.py:" + name],
    "metric": lambda name: [f"metrics=['misbehaving.py:{name}']"],
    "environment": lambda wrong: [f"environment={{name='misbehaving.py:Sums', kwargs={{wrong='{wrong}'}}}}"],
    "extension": lambda name: [f"extension=[{{name='misbehaving.py:{name}'}}]"],
}
CASES = [
    (kind, name, message)
    for kind, table in zip(SELECTING, (LOSSES, ADVANTAGES, METRICS, ENVIRONMENTS, EXTENSIONS), strict=True)
    for name, message in table.items()
]
THEIR_OWN_TRACEBACK = {"raises", "advantage_raises", "metric_raises", "Raises", "FailsLater", "hangs", "metric_hangs"}


@pytest.fixture
def train(plugrad, folder):
    """Train with a component of `misbehaving.py`."""
    shutil.copy(HERE / "misbehaving.py", folder / "misbehaving.py")

    def call(kind, name, *settings):
        # A short limit for those that hang alone: on a busy machine the others may take longer.
        limit = ["preflight_timeout_s=0.5"] if "hangs" in name.lower() else []
        overrides = [*SELECTING[kind](name), *limit, "max_steps=1", *settings]
        return plugrad("train", "run.toml", *(word for override in overrides for word in ("--set", override)))

    return call


@pytest.mark.parametrize(("kind", "name", "message"), CASES, ids=lambda value: value if " " not in value else "")
def test_it_is_named_and_explained(train, folder, kind, name, message):
    done = train(kind, name)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    component = "Sums" if kind == "environment" else name
    assert f"the {kind} '{component}' ({folder / 'misbehaving.py'})" in done.stderr
    assert "core/plugrad" not in done.stderr
    assert "pluggy/_" not in done.stderr
    if name in THEIR_OWN_TRACEBACK:
        assert "Traceback (of the plugin):\n" in done.stderr
        assert f'File "{folder / "misbehaving.py"}", line ' in done.stderr
    if name != "FailsLater":
        assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("loss", "prints"),
        ("advantage", "advantage_prints"),
        ("metric", "metric_prints"),
        ("environment", "prints"),
        ("extension", "Prints"),
    ],
)
def test_what_prints_is_named_and_goes_on(train, kind, name):
    done = train(kind, name)
    assert done.returncode == 0, done.stderr
    (note,) = [line for line in done.stderr.splitlines() if "prints: " in line]
    assert f"the {kind} " in note
    assert "look at me" in note
    assert done.stdout.startswith("run: ")


def test_a_run_that_is_refused_leaves_the_earlier_run_as_it_was(train, plugrad, folder):
    assert plugrad("train", "run.toml", "--set", "max_steps=1").returncode == 0
    before = (folder / "runs" / "run" / "metrics.jsonl").read_text()
    done = plugrad("train", "run.toml", "--overwrite", "--set", "tokens_per_micro_batch=3")
    assert done.returncode == 2
    assert (folder / "runs" / "run" / "metrics.jsonl").read_text() == before
    assert (folder / "runs" / "run" / "model" / "config.json").is_file()


def test_the_whole_traceback_is_there_for_the_asking(train, plugrad, folder):
    done = plugrad("train", "run.toml", "--traceback", "--set", "loss.name=misbehaving.py:raises")
    assert done.returncode == 2
    assert "plugrad/host/" in done.stderr
    assert "KeyError: 'oh no'" in done.stderr
