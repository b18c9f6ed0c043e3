"""The environment `reasoning_gym`: its tasks, their options, and what is held out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from plugrad import DataError, OptionError, PluginError

pytest.importorskip("reasoning_gym")

from plugrad_environments.generated_tasks import NOT_STABLE, checked_config, task_names
from plugrad_environments.reasoning import ReasoningGym

ONE_DIGIT = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


def test_the_examples_are_those_of_reasoning_gym():
    import reasoning_gym

    environment = ReasoningGym("leg_counting", config={"max_animals": 3}, size=5, num_eval=2, seed=7)
    theirs = reasoning_gym.create_dataset("leg_counting", seed=7, size=5, max_animals=3)
    assert [e["prompt"] for e in environment.train_examples()] == [entry["question"] for entry in theirs]
    assert [e["reference"] for e in environment.train_examples()] == [entry["answer"] for entry in theirs]
    assert environment.train_examples()[4]["example_id"] == "leg_counting:7:4"


def test_the_tasks_own_scorer_scores(completed):
    example = (environment := ReasoningGym("leg_counting", size=2, num_eval=0)).train_examples()[0]
    right = example["reference"]
    assert environment.score([completed(example, text) for text in (right, f" {right}\n", "", "cow")])[:2] == [1, 1]
    tagged = ReasoningGym("leg_counting", size=2, num_eval=0, answer_tag="answer", system="direct")
    assert tagged.train_examples()[0]["prompt"][0]["content"].startswith("Answer the question directly")
    texts = (f"so <answer>1</answer>, no: <answer> {right} </answer>", right)
    assert tagged.score([completed(tagged.train_examples()[0], text) for text in texts]) == [1, 0]


def test_what_a_scorer_cannot_read_is_worth_0_and_counted(completed):
    environment = ReasoningGym("prime_factorization", size=1, num_eval=0)
    rollout = completed(environment.train_examples()[0], "what?")
    assert environment.score([rollout]) == [0]
    assert rollout["metrics"] == {"unreadable_answers": 1, "scorer_timeouts": 0}


def test_answers_that_a_scorer_evaluates_end_at_most_its_own_process(completed):
    # Sympy evaluates what it reads.
    environment = ReasoningGym("countdown", size=1, num_eval=0, timeout_s=0.5)
    rollouts = [completed(environment.train_examples()[0], text) for text in ("__import__('os')._exit(0)", "9**9**9**9**9")]
    assert environment.score(rollouts) == [0, 0]
    assert [rollout["metrics"]["scorer_timeouts"] for rollout in rollouts] == [1, 1]


def test_levels_come_in_their_order_and_are_reported(completed):
    environment = ReasoningGym("chain_sum", levels=[0, 3], size=6, num_eval=2)
    examples = environment.train_examples()
    assert environment.in_order
    assert [example["level"] for example in examples] == [0, 0, 0, 3, 3, 3]
    assert [example["level"] for example in environment.eval_examples()] == [0, 3]
    assert max(len(example["prompt"]) for example in examples[:3]) < max(len(example["prompt"]) for example in examples[3:])
    rollout = completed(examples[0], examples[0]["reference"])
    assert environment.score([rollout]) == [1]
    assert (rollout["metrics"]["level_0"], rollout["metrics"]["level_3"]) == (1, None)
    assert not ReasoningGym("chain_sum", size=1, num_eval=0).in_order


def test_no_held_out_problem_is_trained_on():
    environment = ReasoningGym("chain_sum", config=ONE_DIGIT, size=400, num_eval=20)
    train = {example["prompt"] for example in environment.train_examples()}
    held_out = {example["prompt"] for example in environment.eval_examples()}
    assert len(environment.eval_examples()) == 20
    assert len(train) > 100
    assert not train & held_out
    with pytest.raises(DataError, match=r"few different problems"):
        ReasoningGym("chain_sum", config={**ONE_DIGIT, "min_terms": 1, "max_terms": 1})


def test_a_mixture_has_its_tasks_by_weight(completed):
    weights = {"leg_counting": 1.0, "chain_sum": 3.0}
    environment = ReasoningGym(tasks=weights, configs={"chain_sum": ONE_DIGIT}, size=200, num_eval=5)
    examples = environment.train_examples()
    share = sum(example["task"] == "chain_sum" for example in examples) / len(examples)
    assert share == pytest.approx(0.75, abs=0.1)
    rollouts = [completed(example, example["reference"]) for example in examples[:20]]
    assert environment.score(rollouts) == [1] * 20


def test_every_task_by_name_takes_its_defaults():
    names = task_names()
    assert len(names) > 100
    assert "composite" not in names
    assert set(names) >= NOT_STABLE
    for name in names:
        assert checked_config(name, {}) == {}


REFUSED = {
    "unknown": ({"task": "leg_count"}, "no task 'leg_count'. Did you mean 'leg_counting'\\? It has ab, acre"),
    "none": ({}, "set one of task = "),
    "both": ({"task": "chain_sum", "tasks": {"chain_sum": 1.0}}, "set one of task = "),
    "option": ({"task": "leg_counting", "config": {"max_animal": 3}}, "Did you mean 'max_animals'\\? It takes min_animals"),
    "type": ({"task": "leg_counting", "config": {"max_animals": "x"}}, "max_animals = 'x' is wrong"),
    "refused": ({"task": "leg_counting", "config": {"max_animals": 0}}, "refuses .* max_animals must be >= min_animals"),
    "seed": ({"task": "leg_counting", "config": {"seed": 0}}, "the seed of 'leg_counting' is set beside its options"),
    "weight": ({"tasks": {"leg_counting": 0.0}}, "A weight is a number above 0"),
    "configs": ({"tasks": {"leg_counting": 1.0}, "configs": {"chain_sum": {}}}, "tasks has leg_counting"),
    "config of several": ({"tasks": {"leg_counting": 1.0}, "config": {"x": 1}}, "config is for one task"),
    "level": ({"task": "chain_sum", "levels": [-1]}, "no level -1: its levels are 0 to 10"),
    "no curriculum": ({"tasks": {"chain_sum": 1.0, "acre": 1.0}, "levels": [0]}, "'acre', and reasoning-gym has none"),
    "option of a level": (
        {"task": "chain_sum", "config": {"min_terms": 2}, "levels": [0]},
        "'min_terms' of the task 'chain_sum' is set by its level",
    ),
    "prompt": ({"task": "leg_counting", "prompt": "Hello"}, "has to contain \\{question\\}"),
}


@pytest.mark.parametrize(("options", "said"), REFUSED.values(), ids=REFUSED)
def test_it_refuses_and_says_what_there_is(options, said):
    with pytest.raises(OptionError, match=said):
        ReasoningGym(**options)


def test_tasks_that_differ_between_processes_are_told_of(caplog, monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    ReasoningGym("ransom_note", size=1, num_eval=1)
    assert "Start it with PYTHONHASHSEED=0" in caplog.text
    caplog.clear()
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    ReasoningGym("ransom_note", size=1, num_eval=1)
    assert not caplog.text


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(PluginError, match=r"pip install 'plugrad-environments\[reasoning-gym\]'"):
        ReasoningGym("leg_counting")


def test_importing_the_package_imports_none_of_the_others():
    code = (
        "import sys, plugrad_environments.hf, plugrad_environments.reasoning, plugrad_environments.verifiers_tasks\n"
        "print({'datasets', 'reasoning_gym', 'math_verify', 'jsonschema', 'verifiers'} & set(sys.modules))"
    )
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    assert found.stdout.strip() == "set()"


def test_it_keeps_the_promises_of_an_environment(tried):
    options = {"task": "chain_sum", "config": ONE_DIGIT, "size": 40, "num_eval": 5}
    passed, skipped = tried("reasoning_gym", options)
    assert passed == {
        "runs", "examples_stable", "example_ids", "held_out", "deterministic", "score_alone", "score_order",
        "rollouts_unchanged", "references", "odd_completions", "options_from_toml", "pickles",
    }  # fmt: skip
    assert skipped == {"asks", "tool_calls", "examples_unchanged", "resumes"}
