"""The numbers of a comparison, on records that one can do in one's head."""

from statistics import stdev

import pytest

from plugrad.compare.quantities import count, duration, share
from plugrad.compare.summary import summarize

TWENTY = [float(step) for step in range(1, 21)]


def statistic(summary, arm, name):
    (found,) = [each for each in summary.arms if each.name == arm]
    value = found.over_seeds[name]
    return (value.value, value.spread, value.num_seeds)


def difference(summary, arm, name="reward"):
    (found,) = [each for each in summary.arms if each.name == arm]
    return found.differences.get(name)


def test_the_reward_is_the_mean_of_the_last_tenth_and_its_spread_that_over_seeds(finished):
    summary = summarize([finished("a", 0, TWENTY), finished("a", 1, [step + 2 for step in TWENTY])], "a")
    # Steps 19 and 20: 19.5, and 21.5 at the other seed.
    assert statistic(summary, "a", "reward") == (20.5, pytest.approx(stdev([19.5, 21.5])), 2)


def test_a_tenth_is_at_least_one_step_and_never_less_than_a_tenth(finished):
    summary = summarize([finished("a", 0, [1.0, 2.0, 3.0]), finished("b", 0, [1.0] * 9 + [2.0, 4.0])], "a")
    assert statistic(summary, "a", "reward")[0] == 3.0
    assert statistic(summary, "b", "reward")[0] == 3.0


def test_one_seed_has_no_spread(finished):
    assert statistic(summarize([finished("a", 0, TWENTY)], "a"), "a", "reward") == (19.5, None, 1)


def test_at_equal_tokens_every_run_is_cut_where_the_one_with_fewest_ended(finished):
    # a samples 20 * 10 tokens, b 20 * 25: b has sampled 200 after 8 steps, of which the last tenth is the eighth.
    summary = summarize([finished("a", 0, TWENTY), finished("b", 0, TWENTY, tokens=25)], "a")
    assert summary.token_budget == 200
    assert statistic(summary, "a", "reward_at_equal_tokens")[0] == 19.5
    assert statistic(summary, "b", "reward_at_equal_tokens")[0] == 8.0


def test_a_run_whose_first_step_has_more_tokens_than_another_has_in_all_has_no_reward_at_equal_tokens(finished):
    summary = summarize([finished("a", 0, [1.0]), finished("b", 0, [1.0, 2.0], tokens=11)], "a")
    assert summary.arms[1].over_seeds["reward_at_equal_tokens"] is None


def test_the_difference_from_the_baseline_is_paired_by_seed(finished):
    runs = [
        *(finished("base", seed, [reward]) for seed, reward in enumerate([1.0, 5.0, 9.0])),
        *(finished("mine", seed, [reward]) for seed, reward in enumerate([2.0, 6.0, 11.0])),
    ]
    found = difference(summarize(runs, "base"), "mine")
    # 1, 1 and 2, whatever the seeds do to both.
    assert (found.value, found.num_seeds) == (pytest.approx(4 / 3), 3)
    assert found.spread == pytest.approx(stdev([1.0, 1.0, 2.0]))
    assert difference(summarize(runs, "base"), "base") is None


def test_a_seed_that_one_of_the_two_has_not_finished_is_in_no_difference(finished):
    runs = [finished("base", 1, [5.0]), finished("mine", 0, [2.0]), finished("mine", 1, [6.0])]
    found = difference(summarize(runs, "base"), "mine")
    assert (found.value, found.spread, found.num_seeds) == (1.0, None, 1)


def test_steps_tokens_time_and_memory(finished):
    summary = summarize([finished("a", 0, TWENTY), finished("a", 1, TWENTY)], "a")
    assert [statistic(summary, "a", name)[0] for name in ("num_steps", "num_tokens", "seconds")] == [20, 200, 10]
    assert statistic(summary, "a", "memory_gib")[0] == 2.0


def test_what_was_not_recorded_or_not_finite_is_no_number(finished):
    others = {"entropy/mean": 0.5, "inference_mismatch/kl": None}
    (arm,) = summarize([finished("a", 0, TWENTY, **others)], "a").arms
    assert arm.over_seeds["entropy"].value == 0.5
    assert arm.over_seeds["mismatch"] is None
    assert arm.over_seeds["held_out"] is None


def test_a_run_that_failed_or_was_left_half_done_is_in_no_number(finished):
    good, failed, half = (finished("a", seed, TWENTY) for seed in range(3))
    (failed.folder / "outcome.json").write_text('{"exit_code": 2, "num_steps": 20, "seconds": 1.0, "error": "x"}')
    (half.folder / "outcome.json").unlink()
    (arm,) = summarize([good, failed, half], "a").arms
    assert (list(arm.runs), arm.num_planned) == ([0], 3)


@pytest.mark.parametrize("outcome", ["", "{", "[]", '{"exit_code": 0}', '{"exit_code": 0, "num_steps": 19, "seconds": 1.0}'])
def test_an_outcome_that_is_not_of_this_record_is_none(finished, outcome):
    run = finished("a", 0, TWENTY)
    assert run.is_finished
    (run.folder / "outcome.json").write_text(outcome)
    assert not run.is_finished


def test_numbers_are_shown_as_one_says_them():
    assert [share(0.12345), share(-1.0), share(12345.0)] == ["0.123", "-1.000", "1.234e+04"]
    assert [duration(9.46), duration(245), duration(3845)] == ["9.5 s", "4:05", "1:04:05"]
    assert [count(950), count(12345), count(4_560_000), count(2.5e9)] == ["950", "12.3k", "4.56M", "2.5G"]
