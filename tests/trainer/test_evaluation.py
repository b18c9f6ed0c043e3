"""Held-out examples: several completions of each, sets by name, and the best checkpoint."""

import json
from itertools import combinations

import pytest

from plugrad import DataError, RunFileError
from plugrad.config.tables.evaluation_table import EvaluationTable
from plugrad.contracts.measures import Measures
from plugrad.trainer.checkpoints.checkpoint_folder import best_in, steps_in
from plugrad.trainer.held_out_numbers import held_out_numbers, pass_at_k, reward_of_majority
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train

CHECKPOINT = {"every_steps": 1, "keep": 1, "keep_best": "eval/hard/reward"}


def rollout(reward, completion="", length=1, **info):
    told = {"info": info} if info else {}
    return {"reward": reward, "completion": completion, "completion_ids": [0] * length, "metrics": {}, **told}


@pytest.mark.parametrize("successes", [[1, 0, 0, 1, 0], [0, 0, 0], [1, 1], [1]])
def test_pass_at_k_is_the_share_of_all_choices_of_k_that_hold_a_success(successes):
    for k in range(1, len(successes) + 1):
        chosen = [any(choice) for choice in combinations(successes, k)]
        assert pass_at_k(list(map(bool, successes)), k) == pytest.approx(sum(chosen) / len(chosen))


def test_the_majority_is_that_of_the_answers_which_the_environment_writes():
    by_text = [rollout(1.0, "7"), rollout(0.0, "8"), rollout(1.0, "7 ")]
    assert reward_of_majority(by_text) == 1.0
    assert reward_of_majority([*by_text, rollout(0.0, "8")]) == 0.5
    assert reward_of_majority([rollout(1.0, "it is 7", answer=7), rollout(0.0, "8"), rollout(1.0, "7", answer=7)]) == 1.0


def test_numbers_add_up_over_ranks_whatever_their_shares():
    table = EvaluationTable(every_steps=1, rollouts_per_example=3, temperature=1.0)
    groups = [[rollout(float(i * j % 2), str(j % 2), length=i + j + 1) for j in range(3)] for i in range(5)]
    whole = held_out_numbers(groups, "eval", table).values_by_name()
    assert list(whole) == EvaluationTable(every_steps=1, rollouts_per_example=3, temperature=1.0).number_names
    for cut in (0, 2, 5):
        total = Measures(held_out_numbers(groups[:cut], "eval", table))
        total.update(held_out_numbers(groups[cut:], "eval", table))
        assert total.values_by_name() == pytest.approx(whole)


@pytest.fixture
def evaluated(tmp_path, run_file):
    """A run file with two held-out sets, for runs that keep their best checkpoint."""
    held_out = [{"prompt": f"{i}=", "reference": str(i), "level": i % 3} for i in range(8)]
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps(example) + "\n" for example in held_out))
    environment = {
        "name": "jsonl",
        "kwargs": {"path": "sums.jsonl", "reward": "rewards.py:ones", "num_eval": 0, "eval_path": "held_out.jsonl"},
    }

    def make(**tables):
        evaluation = {
            "every_steps": 2,
            "rollouts_per_example": 4,
            "temperature": 0.7,
            "sets": {"hard": {"where": {"level": 2}}, "few": {"where": {"level": [0, 1]}, "num_examples": 1}},
        }
        defaults = {"environment": environment, "evaluation": evaluation, "max_steps": 6}
        return {**defaults, "checkpoint": CHECKPOINT, **tables}

    return make


def test_sets_are_reported_and_the_best_checkpoint_stays_when_the_run_goes_on(
    run, run_file, evaluated, tmp_path, stopped_runs
):
    whole = run(**evaluated(output_dir=str(tmp_path / "whole")))
    records = [record for record in whole.records if "eval/reward" in record]
    assert [record["step"] for record in records] == [0, 2, 4, 6]
    names = {name for name in records[0] if name.startswith("eval/")}
    assert {"eval/hard/pass_at_k/2", "eval/few/maj_at_k/4", "eval/mean_at_k/4", "eval/few/completion_length"} <= names
    assert all(record["eval/mean_at_k/4"] == record["eval/reward"] for record in records)
    best = max(records[1:], key=lambda record: (record["eval/hard/reward"], -record["step"]))
    found = best_in(whole.folder, "eval/hard/reward")
    assert (found.value, found.step) == (best["eval/hard/reward"], best["step"])
    assert steps_in(whole.folder) == sorted({6, best["step"]}, reverse=True)

    kept = run(**evaluated(output_dir=str(tmp_path / "all"), checkpoint={**CHECKPOINT, "keep": 9}))
    stopped_runs.stop_after(3, kept.folder, tmp_path / "stopped")
    resumed = train(run_file(**evaluated(output_dir=str(tmp_path / "stopped"))), resume=True, display=Silent())
    stopped_runs.assert_same(resumed.folder, whole.folder)
    assert best_in(resumed.folder, "eval/hard/reward") == found
    assert steps_in(resumed.folder) == steps_in(whole.folder)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"evaluation": {"every_steps": 1, "rollouts_per_example": 2}}, "needs a temperature"),
        ({"evaluation": {"sets": {"reward": {"where": {"level": 1}}}}}, "cannot be the name of a set"),
        ({"checkpoint": {"keep_best": "eval/reward"}}, r"is turned off: set evaluation\.every_steps"),
        ({"checkpoint": {"keep_best": "eval/rewards"}, "evaluation": {"every_steps": 1}}, "Did you mean 'eval/reward'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_run_file(run_file, tables, message):
    with pytest.raises(RunFileError, match=message):
        run_file(**tables)


def test_a_set_without_an_example_is_refused_before_the_model_loads(run, evaluated):
    evaluation = {"every_steps": 1, "sets": {"hard": {"where": {"level": "2"}}}}
    with pytest.raises(DataError, match=r"none of the 8 held-out examples meets the where of evaluation\.sets\.hard"):
        run(**evaluated(evaluation=evaluation, checkpoint={}))


def test_a_number_that_no_step_has_is_refused_after_the_first(run):
    with pytest.raises(RunFileError, match=r"'rewards' is no number that the run records\. Did you mean 'reward'"):
        run(checkpoint={"keep_best": "rewards"})
