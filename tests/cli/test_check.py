"""`plugrad check`: its table, the report of a broken promise, exit codes, and bad input."""

import pytest

pytestmark = pytest.mark.usefixtures("quick_starts")

BROKEN = """
from plugrad import LossInputs, LossOutputs, loss


@loss(policy_gradient=True)
def upside_down(inputs: LossInputs, scale: float = 1.0) -> LossOutputs:
    return LossOutputs(scale * inputs.advantages * inputs.trainer_logprobs)
"""


@pytest.fixture
def broken(folder):
    (folder / "mine.py").write_text(BROKEN)
    return "./mine.py:upside_down"


def test_a_broken_promise_is_explained_and_the_exit_code_is_1(plugrad, broken):
    done = plugrad("check", broken, "--set", "scale=2.0")
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    assert "upside_down loss" in text
    assert "scale=2.0" in text
    assert "advantage_sign failed" in text
    assert "a token with the advantage 1 has the gradient 2: descending on it lowers its log-prob" in text
    assert "why With the wrong sign" in text
    assert "fix A loss is minimised" in text
    assert "one_rank_equals_two ok" in text
    assert "1 failed" in text
    assert "conformance kit 6" in text


def test_a_declared_failure_is_none_and_one_that_passes_is(plugrad, broken):
    declared = ["--expected-failure", "advantage_sign=it unlearns"]
    assert plugrad("check", broken, *declared).returncode == 0
    done = plugrad("check", broken, *declared, "--expected-failure", "padding=it pads")
    assert done.returncode == 1
    text = " ".join(done.stdout.split())
    assert "advantage_sign failed, as declared it unlearns" in text
    assert "it was declared to fail and now passes" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gsppo"], "no plugin of any kind is called 'gsppo'. Did you mean 'gspo'?"),
        (["ppo_clip", "--kind", "los"], "there is no kind 'los'. Did you mean 'loss'?"),
        (["ppo_clip", "--kind", "metric"], "There is a loss with that name"),
        (["ppo_clip", "--set", "clip_esp=0.1"], "has no option 'clip_esp'. Did you mean 'clip_eps'?"),
        (["ppo_clip", "--set", "clip_eps=wide"], "'clip_eps' is 'wide', which is not float"),
        (["ppo_clip", "--set", "clip_eps"], "--set 'clip_eps' is not an assignment. Write --set NAME=VALUE."),
        (["ppo_clip", "--expected-failure", "paddin=x"], "there is no such check. Did you mean 'padding'?"),
        (["./none.py:loss", "--kind", "loss"], "none.py"),
        (
            ["./mine.py:helper"],
            "the kind of 'helper' is not clear. Pass --kind (in Python, kind=): loss,",
        ),
    ],
)
def test_bad_input_is_said_with_the_remedy(plugrad, broken, folder, arguments, said):
    (folder / "mine.py").write_text(BROKEN + "\n\ndef helper(inputs):\n    return inputs\n")
    done = plugrad("check", *arguments)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
