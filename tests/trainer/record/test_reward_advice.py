"""What a run that did not learn is told at its end."""

from pathlib import Path

import pytest

from plugrad.run_result import RunResult
from plugrad.trainer.record.metrics_file import MetricsFile
from plugrad.trainer.record.reward_advice import advice_on_reward

ROOT = Path(__file__).parents[3]
NOISY = [0.2, 0.3, 0.25] * 5


@pytest.fixture
def result(tmp_path):
    def make(rewards, *, samples=True, learns_from_rewards=True):
        parity = {"inference_mismatch/parity": 0.0} if samples else {}
        metrics = MetricsFile(tmp_path)
        for step, reward in enumerate(rewards, start=1):
            metrics.write({"step": step, "reward": reward, **parity})
        lines, where = metrics.lines, (tmp_path, tmp_path / "model")
        return RunResult(*where, len(rewards), 1.0, lines, learns_from_rewards=learns_from_rewards)

    return make


@pytest.mark.parametrize(
    ("rewards", "advice"),
    [
        ([0.0, 0.0], 'The reward was 0.000 in every step, so there was nothing to learn from: see "Why is my reward flat?"'),
        ([1.0] * 20, "The reward was 1.000 in every step"),
        (NOISY, 'The reward did not rise beyond its noise: see "Why is my reward flat?"'),
        ([1 - reward - 0.02 * step for step, reward in enumerate(NOISY)], 'The reward fell: see "Why does my reward fall?"'),
        ([reward + 0.02 * step for step, reward in enumerate(NOISY)], None),
        ([0.1, 0.2, 0.1], None),
        ([0.0], None),
        ([], None),
    ],
)
def test_a_reward_that_does_not_rise_points_to_its_page(result, rewards, advice):
    found = advice_on_reward(result(rewards))
    assert found.startswith(advice) if advice else found == ""


def test_replayed_references_have_no_reward_to_raise(result):
    assert advice_on_reward(result(NOISY, samples=False)) == ""


@pytest.mark.parametrize("samples", [True, False])
def test_equal_rewards_are_told_where_nothing_else_is_to_learn_from(result, samples):
    zeros = [0.0] * 20
    assert advice_on_reward(result(zeros, samples=samples, learns_from_rewards=False)) == ""


@pytest.mark.parametrize("samples", [True, False])
def test_equal_rewards_are_told_where_they_are_all_there_is(result, samples):
    assert "nothing to learn" in advice_on_reward(result([0.0] * 20, samples=samples))


def test_the_page_has_the_questions():
    page = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    for question in ("Why is my reward flat?", "Why does my reward fall?", "Which learning rate should I take?"):
        assert f"### {question}\n" in page
