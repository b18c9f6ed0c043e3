"""Held-out examples: several completions of each, sets by name, and the best checkpoint."""

import json
from itertools import combinations

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from plugrad import DataError, PlugradError, RunFileError
from plugrad.config.tables.evaluation_table import EvaluationTable
from plugrad.contracts.measures import Measures
from plugrad.host.select import resolved
from plugrad.policy.policy import Policy
from plugrad.registry.provenance import record as record_of
from plugrad.report.core_numbers import CORE_NUMBERS
from plugrad.trainer.checked_plugins import check_plugins
from plugrad.trainer.checkpoints.best import OF_THE_TRAINER
from plugrad.trainer.checkpoints.checkpoint_folder import best_in, steps_in
from plugrad.trainer.checkpoints.going_on import may_change
from plugrad.trainer.held_out_numbers import held_out_numbers, pass_at_k, reward_of_majority
from plugrad.trainer.record.display import Silent
from plugrad.trainer.record.run_diff import EarlierRun
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


OWN = """
import random

from plugrad import Max, Sum, metric


class Calls:
    def __init__(self):
        self.calls = 0

    def __call__(self, inputs):
        self.calls += 1
        random.random()
        return {"calls": Max(float(self.calls)), "rows": Sum(float(len(inputs.rewards)))}

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


class Other:
    def __init__(self, num=3):
        self.num, self.scored = num, 0

    def train_examples(self):
        return [{"prompt": "1+1=" * (i + 3), "level": i} for i in range(self.num)]

    def eval_examples(self):
        return []

    def score(self, rollouts):
        self.scored += 1
        for rollout in rollouts:
            rollout["metrics"]["scored"] = float(self.scored)
        return [len(rollout["completion"]) + rollout["example"]["level"] / 8 for rollout in rollouts]

    def state_dict(self):
        return {"scored": self.scored}

    def load_state_dict(self, state):
        self.scored = state["scored"]


class Playing:
    def train_examples(self):
        return [{"prompt": "1+1="}]

    def eval_examples(self):
        return []

    async def play(self, example, policy):
        chat = policy.chat(example["prompt"])
        for _ in range(2):
            reply = await chat.reply(max_new_tokens=1)
            chat.add("user", "+" * len(reply.text))
        return 0.5


@metric(needs={"old_logprobs"})
def moved(inputs):
    return {}


@metric(evaluation=False)
def of_training(inputs):
    return {"ones": 1.0}
"""
OTHER = {"environment": {"name": "own.py:Other"}, "where": {"level": [0, 2]}}


@pytest.fixture
def evaluated(tmp_path, run_file):
    """A run file with three held-out sets, one of another environment, for runs that keep their best checkpoint."""
    held_out = [{"prompt": f"{i}=", "reference": str(i), "level": i % 3} for i in range(8)]
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps(example) + "\n" for example in held_out))
    (tmp_path / "own.py").write_text(OWN)
    environment = {
        "name": "jsonl",
        "kwargs": {"path": "sums.jsonl", "reward": "rewards.py:ones", "num_eval": 0, "eval_path": "held_out.jsonl"},
    }

    def make(evaluation=None, **tables):
        default = {
            "every_steps": 2,
            "rollouts_per_example": 4,
            "temperature": 0.7,
            "sets": {
                "hard": {"where": {"level": 2}},
                "few": {"where": {"level": [0, 1]}, "num_examples": 1},
                "other": OTHER,
            },
        }
        metric = [{"name": f"own.py:{name}"} for name in ("Calls", "of_training")]
        defaults = {"environment": environment, "metric": metric, "max_steps": 6, "tokens_per_micro_batch": 15}
        return {**defaults, "evaluation": {**default, **(evaluation or {})}, "checkpoint": CHECKPOINT, **tables}

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
    assert_measured(whole, records, names)
    assert_of_another_environment(whole, records)

    kept = run(**evaluated(output_dir=str(tmp_path / "all"), checkpoint={**CHECKPOINT, "keep": 9}))
    stopped_runs.stop_after(3, kept.folder, tmp_path / "stopped")
    resumed = train(run_file(**evaluated(output_dir=str(tmp_path / "stopped"))), resume=True, display=Silent())
    stopped_runs.assert_same(resumed.folder, whole.folder)
    assert best_in(resumed.folder, "eval/hard/reward") == found
    assert steps_in(resumed.folder) == steps_in(whole.folder)

    alone = run(**evaluated(output_dir=str(tmp_path / "alone"), evaluation={"metrics": False}, max_steps=2))
    trained, without = (
        [{k: v for k, v in line.items() if not k.startswith("eval/")} for line in stopped_runs.records(each.folder)]
        for each in (whole, alone)
    )
    assert trained[: len(without)] == without, "what is measured of held-out completions changes nothing of training"
    of_core = run_file(**evaluated()).evaluation.number_names
    measured = {name for name in alone.records[0] if name.startswith("eval/")} - set(of_core)
    assert measured == {"eval/other/environment/scored"}


def assert_measured(whole, records, names):
    """Metrics run on each set with instances of their own, but for those that say nothing there."""
    for prefix, rows in (("eval", 32), ("eval/hard", 8), ("eval/few", 4), ("eval/other", 8)):
        assert [record[f"{prefix}/Calls/calls"] for record in records] == [1, 2, 3, 4]
        assert {record[f"{prefix}/Calls/rows"] for record in records} == {rows}
        assert {f"{prefix}/entropy/mean", f"{prefix}/advantage/zero"} <= names
        assert all(record[f"{prefix}/inference_mismatch/kl"] < 1e-6 for record in records), "at the temperature that samples"
    assert [record["Calls/calls"] for record in whole.records[1:]] == [1, 2, 3, 4, 5, 6]
    assert records[0]["eval/reward/mean"] == pytest.approx(records[0]["eval/reward"])
    assert "of_training/ones" in records[1]
    assert not any("of_training" in name for name in names)


def assert_of_another_environment(whole, records):
    """A set has the examples and the scores of its own environment, which is recorded."""
    assert [record["eval/other/environment/scored"] for record in records] == [1, 2, 3, 4]
    for record in records:
        assert record["eval/other/reward"] * 8 % 8 != 0, "a whole number is one of the run's own rewards"
    [recorded] = [each for each in json.loads((whole.folder / "plugins.json").read_text())["components"] if "set" in each]
    assert (recorded["set"], recorded["kind"], recorded["options"]) == ("other", "environment", {"num": 3})
    samples = [json.loads(line) for line in (whole.folder / "samples.jsonl").read_text().splitlines()]
    assert {sample["prompt"] for sample in samples if sample["set"] == "other"} == {"1+1=" * 3, "1+1=" * 5}


@pytest.fixture
def checked(run_file, evaluated):
    """Check a run file as before its model loads."""
    return lambda **tables: check_plugins(run_file(**evaluated(**tables)))


def with_sets(**sets):
    return {"evaluation": {"sets": sets}, "checkpoint": {}}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (with_sets(other={"environment": {"name": "own.py:Othr"}}), "Othr"),
        (
            with_sets(other={"environment": {"name": "own.py:Other", "kwargs": {"nun": 3}}}),
            r"has no option 'nun'\. It takes num=3",
        ),
        (with_sets(other={"environment": {"name": "own.py:Other", "kwargs": {"num": 0}}}), "has no training examples"),
        (with_sets(other={**OTHER, "where": {"level": 7}}), r"none of the 3 held-out examples meets the where of evaluat"),
        ({"evaluation": {"metrics": ["entropie"]}}, r"'entropie', which is no metric of the run\. Did you mean 'entropy'"),
        ({"evaluation": {"metrics": ["of_training"]}}, r"'of_training', which cannot run there: its author says"),
        (
            {"evaluation": {"metrics": ["moved"]}, "metric": {"name": "own.py:moved"}},
            "old_logprobs, which only an update has",
        ),
        (
            {"evaluation": {"metrics": ["advantage"], "rollouts_per_example": 1}},
            r"'advantage', which cannot run there: it reads advantages.*rollouts_per_example is 1; it takes 2",
        ),
        (
            {"evaluation": {"metrics": ["entropy"], "sets": {"entropy": OTHER}}, "checkpoint": {}},
            r"a set has its name, .* Rename evaluation\.sets\.entropy",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_before_a_model_loads(checked, tables, message):
    with pytest.raises(PlugradError, match=message) as refused:
        checked(**tables)
    if "option" in message or "training examples" in message:
        assert refused.value.__notes__ == ["It is the environment of evaluation.sets.other."]


def test_a_run_without_held_out_examples_may_have_those_of_its_sets(checked):
    nothing = {"name": "own.py:Other"}
    checked(environment=nothing, **with_sets(other=OTHER))
    with pytest.raises(DataError, match="has no held-out examples: set evaluation"):
        checked(environment=nothing, **with_sets())
    for tables, reason in (
        (with_sets(other=OTHER, own={"where": {"level": 1}}), r"evaluation\.sets\.own has no environment of its own"),
        ({**with_sets(other=OTHER), "checkpoint": {"keep_best": "eval/entropy/mean"}}, "keep_best = 'eval/entropy/mean'"),
        ({"evaluation": {"sets": {"other": OTHER}, "stop_at_reward": 1.0}, "checkpoint": {}}, "stop_at_reward waits for"),
    ):
        with pytest.raises(RunFileError, match=f"has no held-out examples, and .*{reason}"):
            checked(environment=nothing, **tables)


@pytest.mark.parametrize("own", ["own.py:Other", "own.py:Playing"])
def test_a_set_may_play_where_the_run_does_not_and_the_other_way_round(run, evaluated, own):
    sets = {name: {"environment": {"name": f"own.py:{name}"}} for name in ("Other", "Playing")}
    tables = evaluated(environment={"name": own}, max_steps=1, metric=[], checkpoint={}, tokens_per_micro_batch=64)
    tables["evaluation"] |= {"sets": sets, "rollouts_per_example": 1}
    first = run(**tables).records[0]
    assert (first["eval/Playing/reward"], first["eval/Playing/environment/turns"]) == (0.5, 2.0)
    assert first["eval/Other/environment/scored"] >= 1.0


def test_models_say_something_of_completions_only_where_a_metric_reads_it(run):
    def passes(metrics):
        seen = []
        hook = register_module_forward_pre_hook(
            lambda module, _: seen.append(1) if isinstance(module, Policy) and not torch.is_grad_enabled() else None
        )
        run(max_steps=1, evaluation={"every_steps": 1, "metrics": metrics})
        hook.remove()
        return len(seen)

    without = passes(False)
    assert passes(["reward", "completion_length"]) == without
    # Before the first step and after the last.
    assert passes(["entropy"]) == without + 2


def test_differences_of_a_set_are_told_and_let_a_run_go_on(run, run_file, evaluated, tmp_path):
    first = run(**evaluated(max_steps=1))
    changed = {**OTHER, "environment": {"name": "own.py:Other", "kwargs": {"num": 4}}}
    now = run_file(**evaluated(max_steps=1, evaluation={"sets": {"other": changed}}, checkpoint={}))
    selection, _, _ = check_plugins(now)
    plugins = {"num_processes": 1, **record_of(selection.components(), selection.of_sets)}
    found = EarlierRun.read(first.folder).differences(resolved(now, selection), plugins)
    told = {each.what: (each.then, each.now) for each in found}
    assert told["evaluation.sets.other: environment own.py:Other: num"] == (3, 4)
    # What a model from scratch came to is not filled in here.
    assert [what for what in told if not (may_change(what) or what.startswith("model."))] == []


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"evaluation": {"every_steps": 1, "rollouts_per_example": 2}}, "needs a temperature"),
        ({"evaluation": {"sets": {"reward": {"where": {"level": 1}}}}}, "cannot be the name of a set"),
        ({"evaluation": {"sets": {"environment": {"where": {"level": 1}}}}}, "cannot be the name of a set"),
        ({"evaluation": {"sets": {"all": {}}}}, "it would be all held-out examples once more"),
        ({"evaluation": {"metrics": "all"}}, r"evaluation\.metrics: write true, false or a list such as"),
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rewards", r"'rewards' is no number that the run records\. Did you mean 'reward'\? A step records step, reward"),
        ("importance_samplng/loss", r"Did you mean 'importance_sampling/loss'\?.* begins with importance_sampling/, "),
        ("entrpy/mean", r"Did you mean 'entropy/mean'\?"),
        ("no_such/thing", r"is no number that the run records"),
    ],
)
def test_a_number_that_nothing_records_is_refused_before_the_model_loads(run, name, message):
    with pytest.raises(RunFileError, match=message):
        run(checkpoint={"keep_best": name}, model={"name": "/nowhere"})


def test_a_number_that_its_component_does_not_record_is_refused_after_the_first_step(run):
    with pytest.raises(RunFileError, match=r"'reward/of' is no number .* A step records .*lr, skipped_updates, importance_"):
        run(checkpoint={"keep_best": "reward/of"})


def test_an_extension_may_record_any_number(run, write):
    write(
        "adds.py",
        """
        from plugrad import hookimpl

        class Adds:
            @hookimpl(wrapper=True)
            def compute_metrics(self):
                return {**(yield), "mine": 1.0}
        """,
    )
    found = run(max_steps=1, extension=[{"name": "adds.py:Adds"}], checkpoint={"keep_best": "mine"})
    assert best_in(found.folder, "mine").value == 1.0


def test_the_numbers_of_the_trainer_are_those_that_the_report_knows():
    assert {name for name in CORE_NUMBERS if not name.startswith("eval/")} == {*OF_THE_TRAINER} - {"step"}


def test_a_number_that_no_evaluation_has_is_refused_after_the_first(run):
    with pytest.raises(RunFileError, match=r"'eval/entropy/max' is no number .* An evaluation reports eval/reward"):
        run(checkpoint={"keep_best": "eval/entropy/max"}, evaluation={"every_steps": 5})
