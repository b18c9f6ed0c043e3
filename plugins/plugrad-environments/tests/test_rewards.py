"""Rewards by name: what each is worth for completions that are right, nearly right, and hostile."""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

import pytest

from plugrad import ContractError, DataError, OptionError, PluginError
from plugrad_environments.rewards.named import no_reward, rewards_named, scores_of


@pytest.fixture
def scores(completed):
    """Score completions of one example with one reward."""

    def score(name: str, example: Any, completions: list[str], **options: Any) -> list[float]:
        (named,) = rewards_named([name], None, {name: options} if options else {})
        named.reward.check([{"example_id": 0, **example}])
        return list(scores_of([named], [completed(example, text) for text in completions]))

    return score


def test_exact_match(scores):
    assert scores("exact_match", {"reference": "Paris"}, ["Paris", " Paris\n", "paris", "Paris."]) == [1, 1, 0, 0]
    assert scores("exact_match", {"reference": "Paris"}, ["paris"], ignore_case=True) == [1]
    completions = ["#### 4, no: #### 42", "42", "#### 4"]
    assert scores("exact_match", {"reference": "42"}, completions, pattern="#### (\\d+)") == [1, 0, 0]


def test_regex(scores):
    assert scores("regex", {}, ["a 12", "12", "x"], pattern="\\d+") == [1, 1, 0]
    assert scores("regex", {}, ["a 12", "12", "12\n"], pattern="\\d+", whole=True) == [0, 1, 0]


def test_math_verify(scores):
    pytest.importorskip("math_verify")
    completions = ["0.5", "\\boxed{\\frac{1}{2}}", "The answer is $\\frac{2}{4}$.", "2", "", "(" * 500, "\ud800"]
    assert scores("math_verify", {"reference": "1/2"}, completions) == [1, 1, 1, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"finds no answer in the reference ''"):
        scores("math_verify", {"reference": ""}, [])


def test_it_goes_on_after_a_process_that_never_answers_again(completed):
    from plugrad_environments.rewards.patterns import TEXTS

    (named,) = rewards_named(["regex"], None, {"regex": {"pattern": "b", "timeout_s": 0.2}})
    rollouts = [completed({}, "b"), completed({}, "b")]
    assert TEXTS.ask(("occurs", "b", "b", False), 60) is True
    process = TEXTS._process
    process.send_signal(signal.SIGSTOP)
    assert scores_of([named], rollouts) == [0, 1]
    assert [rollout["metrics"] for rollout in rollouts] == [{"regex_timeouts": 1.0}, {"regex_timeouts": 0.0}]
    assert process.poll() is not None


def test_a_pattern_that_takes_for_ever_is_ended(completed):
    options = {"pattern": "(a|aa)+$", "timeout_s": 0.3}
    for name in ("regex", "exact_match"):
        (named,) = rewards_named([name], None, {name: options})
        rollout = completed({"reference": "a"}, "a" * 60 + "b")
        assert scores_of([named], [rollout]) == [0]
        assert rollout["metrics"] == {f"{name}_timeouts": 1.0}


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def test_json_schema(scores):
    pytest.importorskip("jsonschema")
    completions = ['{"a": 1}', 'So:\n```json\n{"a": 2}\n```', '{"a": "x"}', "[", "NaN", "[" * 100_000]
    assert scores("json_schema", {}, completions, schema=SCHEMA, parses=0.1) == [1, 1, 0.1, 0, 0, 0]
    # As `datasets` reads a table: keys of other rows are None.
    assert scores("json_schema", {"schema": {"type": "string", "minLength": None}}, ['"x"', "1"], column="schema") == [1, 0]
    with pytest.raises(DataError, match=r"the JSON schema is none: 'objec' is not valid .*at type"):
        scores("json_schema", {}, [], schema={"type": "objec"})
    with pytest.raises(DataError, match=r"refers to 'https://example.com/x', which is no part of it"):
        scores("json_schema", {}, [], schema={"properties": {"a": {"$ref": "https://example.com/x"}}})
    deep = {"type": "array", "items": {"$ref": "#"}}
    assert scores("json_schema", {}, ["[[], [[]]]", "[1]"], schema=deep) == [1, 0]
    with pytest.raises(OptionError, match=r"one of schema .* and column"):
        scores("json_schema", {}, [])


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("math_verify", "math_verify", "math"), ("json_schema", "jsonschema", "json-schema")]
)
def test_a_missing_package_is_named_with_its_command(scores, monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    options = {"schema": {"title": "of this test"}} if name == "json_schema" else {}
    with pytest.raises(PluginError, match=rf"^the reward '{name}' needs .*'plugrad-environments\[{extra}\]'"):
        scores(name, {"reference": "1"}, [], **options)


def test_code_tests(scores):
    example = {"tests": ["assert f(2) == 4", "assert f(0) == 0"]}
    completions = {
        "def f(x): return 2 * x": 1,
        "Here it is:\n```python\ndef f(x):\n    return x * 2\n```\nDone.": 1,
        "print('y' * 10**7)\ndef f(x): return 2 * x": 1,
        "def f(x): return 0": 0.5,
        "def f(": 0,
        "import sys; sys.exit(0)": 0,
        "import os; os._exit(0)": 0,
        "x = 'a' * 10**11\ndef f(x): return 2 * x": 0,
        "import os\ndef f(x): return 2 * x if 'PLUGRAD_SECRET' not in os.environ else 1": 1,
        "\x00": 0,
        "": 0,
    }
    assert scores("code_tests", example, list(completions), partial=True) == list(completions.values())
    assert scores("code_tests", example, ["def f(x): return 0", "def f(x): return 2 * x"]) == [0, 1]


PROGRAMS = {
    "print(sum(map(int, input().split())))": 1,
    "import sys\nif __name__ == '__main__':\n    print(sum(map(int, sys.stdin.read().split())), '\\n')\n    sys.exit()": 1,
    "print(3)": 0.5,
    "print(sum(map(int, input().split()))); raise SystemExit(1)": 0,
    "import sys; sys.stdout.write('3' * 10**7)": 0,
    "input(); input()": 0,
}


@pytest.mark.parametrize(
    "tests",
    [
        [{"input": "1 2\n", "output": "3\n"}, {"input": "2 2", "output": "4"}],
        '{"inputs": ["1 2", "2 2"], "outputs": ["3", "4"]}',
    ],
)
def test_programs_are_tested_by_what_they_print(scores, tests):
    completions = PROGRAMS if isinstance(tests, list) else list(PROGRAMS)[:1]
    expected = [PROGRAMS[code] for code in completions]
    assert scores("code_tests", {"tests": tests}, list(completions), partial=True, output_kb=4) == expected


def test_code_that_does_not_end_is_ended_with_what_it_started(scores, tmp_path):
    late = tmp_path / "late"
    code = f"import os, time\nif os.fork() == 0:\n    time.sleep(2)\n    open({str(late)!r}, 'w')\nwhile True: pass"
    assert scores("code_tests", {"tests": "pass"}, [code], timeout_s=0.5) == [0]
    time.sleep(2)
    assert not late.exists()


def test_tests_that_are_none_are_refused(scores):
    with pytest.raises(DataError, match=r"are no Python code"):
        scores("code_tests", {"tests": ["assert ("]}, [])
    for none in (3, [], "", [{"input": 1, "output": "2"}], {"inputs": ["1"], "outputs": []}):
        with pytest.raises(DataError, match=r"Tests are Python code"):
            scores("code_tests", {"tests": none}, [])
    with pytest.raises(DataError, match=r"calls of the function 'add', which is not supported"):
        scores("code_tests", {"tests": {"fn_name": "add", "inputs": [], "outputs": []}}, [])


FUNCTIONS = """
def ours(completion, example):
    return {"length": 0.5 * len(completion), "right": float(completion == example["reference"])}

def theirs(prompts, completions, n, **kwargs):
    return [None if one < 0 else float(one) for one in n]

def reward(completion, example):
    return 1

def neither(completion):
    return 1

def text(completion, example):
    return "1"

def raises(completion, example):
    raise KeyError("x")

def more(completions, wanted):
    return []
"""


def test_rewards_are_weighted_and_recorded_one_by_one(written, completed):
    file = written("functions.py", FUNCTIONS)
    names = ["exact_match", f"{file}:ours", f"{file}:theirs"]
    rewards = rewards_named(names, [1.0, 2.0, 0.1], {})
    rollouts = [completed({"prompt": "p", "reference": "a", "n": n}, text) for n, text in [(3, "a"), (-1, "bb")]]
    first, second = scores_of(rewards, rollouts)
    parts = {"exact_match": 1, "ours/length": 0.5, "ours/right": 1, "ours": 1.5, "theirs": 3}
    assert first == {**parts, "reward": pytest.approx(1 + 2 * 1.5 + 0.1 * 3)}
    assert second == {"exact_match": 0, "ours/length": 1, "ours/right": 0, "ours": 1, "reward": 2}


def test_one_reward_is_a_number(written, completed):
    file = written("functions.py", FUNCTIONS)
    assert scores_of(rewards_named([f"{file}:reward"], [3.0], {}), [completed({}, "x")]) == [3.0]


def test_a_function_that_has_neither_form_is_refused(written, completed):
    file = written("functions.py", FUNCTIONS)
    with pytest.raises(PluginError, match=r"takes \(completion\). Write it as \(completion, example\), or in TRL's form"):
        rewards_named([f"{file}:neither"], None, {})
    (text,) = rewards_named([f"{file}:text"], None, {})
    with pytest.raises(DataError, match=r"functions.py:text returned '1', which is not a finite number .*completion 'x'"):
        scores_of([text], [completed({}, "x")])
    (raises,) = rewards_named([f"{file}:raises"], None, {})
    with pytest.raises(ContractError, match=r"functions.py:raises raised KeyError"):
        scores_of([raises], [completed({}, "x")])
    (more,) = rewards_named([f"{file}:more"], None, {})
    with pytest.raises(DataError, match=r"asks for 'wanted'. The dataset has prompt, n"):
        more.reward.check([{"example_id": 1, "prompt": "p", "n": 1}])


def test_only_replayed_completions_need_no_reward(completed):
    assert no_reward([completed({}, "x", inference_logprobs=None)]) == [0]
    with pytest.raises(DataError, match=r"no reward for a sampled completion"):
        no_reward([completed({}, "x")])
