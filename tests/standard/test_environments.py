"""Core's environments."""

import json

import pytest

import plugrad
from plugrad import ContractError, DataError, OptionError
from plugrad.host.environment import BoundEnvironment


def rollout(example, completion):
    return {"completion": completion, "example": example}


def test_arithmetic_holds_sums_out():
    environment = plugrad.load("environment", "arithmetic", digits=2)
    train = {example["prompt"] for example in environment.train_examples()}
    held_out = {example["prompt"] for example in environment.eval_examples()}
    assert len(held_out) == 512
    assert len(train) == 90 * 90 - 512
    assert not train & held_out


def test_arithmetic_is_right_and_can_write_answers_in_reverse():
    for reverse in (False, True):
        environment = plugrad.load("environment", "arithmetic", digits=3, reverse=reverse, num_train=50)
        for example in environment.train_examples():
            left, right = map(int, example["prompt"].rstrip("=").split("+"))
            answer = str(left + right)
            assert 100 <= left <= 999
            assert example["reference"] == (answer[::-1] if reverse else answer)


def test_arithmetic_is_seeded():
    def of(seed):
        return plugrad.load("environment", "arithmetic", seed=seed).eval_examples()

    assert of(1) == of(1) != of(2)


def test_arithmetic_rewards_the_exact_answer_only():
    environment = plugrad.load("environment", "arithmetic")
    example = {"prompt": "12+34=", "reference": "46"}
    assert environment.score([rollout(example, text) for text in ("46", "64", "46 ", "")]) == [1.0, 0.0, 0.0, 0.0]


def test_arithmetic_has_nine_digits_at_most():
    with pytest.raises(OptionError, match="digits"):
        plugrad.load("environment", "arithmetic", digits=10)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [{"question": f"{i}?", "answer": str(i), "level": i} for i in range(4)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (tmp_path / "rewards.py").write_text(
        "def exact(completion, example):\n    return float(completion == example['answer'])\n"
        "def parts(completion, example):\n    return {'level': example['level'], 'form': 0.5}\n"
        "def broken(completion, example):\n    return 1 / 0\n"
    )
    return tmp_path


def jsonl(reward="exact", **options):
    return plugrad.load(
        "environment",
        "jsonl",
        path="data.jsonl",
        prompt_column="question",
        reference_column="answer",
        reward=f"rewards.py:{reward}",
        **options,
    )


def test_jsonl_names_the_columns_and_keeps_the_others(files):
    example = jsonl().train_examples()[2]
    assert example["prompt"] == "2?"
    assert example["reference"] == "2"
    assert example["level"] == 2
    assert example["example_id"] == "data.jsonl:3"


def test_jsonl_holds_lines_out_or_reads_another_file(files):
    environment = jsonl(num_eval=1)
    assert (len(environment.train_examples()), len(environment.eval_examples())) == (3, 1)
    assert not {e["prompt"] for e in environment.train_examples()} & {e["prompt"] for e in environment.eval_examples()}
    environment = jsonl(eval_path="data.jsonl")
    assert (len(environment.train_examples()), len(environment.eval_examples())) == (4, 4)


def test_jsonl_scores_with_the_users_function(files):
    environment = jsonl()
    example = environment.train_examples()[1]
    assert environment.score([rollout(example, "1"), rollout(example, "2")]) == [1.0, 0.0]


def test_components_of_a_reward_are_summed(files):
    from plugrad.host.load import load_component
    from plugrad.registry.scan import scan

    options = {"path": "data.jsonl", "prompt_column": "question", "reward": "rewards.py:parts"}
    bound = BoundEnvironment.create(load_component("environment", "jsonl", options, scan(), [files]))
    scored = rollout(bound.train_examples()[3], "")
    bound.score([scored])
    assert scored["reward"] == 3.5
    assert scored["reward_components"] == {"level": 3.0, "form": 0.5}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "line 2 is empty: each line is one JSON object"),
        ('{"question": ', "line 2 is not JSON: Expecting value at column"),
        ("[1]", "line 2 is list"),
        ('{"prompt": "x"}', r"line 2 has no column 'question' \(it has prompt\). Set prompt_column"),
    ],
)
def test_a_bad_line_is_named_by_its_number(files, line, complaint):
    (files / "data.jsonl").write_text('{"question": "1?"}\n' + line + '\n{"question": "2?"}\n')
    with pytest.raises(DataError, match=complaint):
        jsonl()


def test_a_file_that_is_not_there(files):
    (files / "data.jsonl").unlink()
    with pytest.raises(DataError, match=r"'data.jsonl' cannot be read: .*No such file"):
        jsonl()


def test_a_reward_function_that_raises_is_named_with_the_example(files):
    environment = jsonl("broken")
    with pytest.raises(ContractError, match=r"rewards.py:broken raised ZeroDivisionError.*example 'data.jsonl:1'") as error:
        environment.score([rollout(environment.train_examples()[0], "x")])
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_holding_out_every_line_is_refused(files):
    with pytest.raises(DataError, match="4 examples, and num_eval = 4"):
        jsonl(num_eval=4)


@pytest.mark.parametrize("column", ["prompt", "reference", "another"])
@pytest.mark.parametrize("text", ['"a\\ud800b"', '"\\udfff"', '[{"role": "user", "content": "\\uD83D"}]'])
def test_half_of_a_surrogate_pair_names_its_line(tmp_path, column, text):
    whole = '{"prompt": "\\uD83D\\uDE00", "reference": "ok"}'
    other = '"prompt": "1", ' if column != "prompt" else ""
    lines = [whole, "{" + other + f'"example_id": "mine", "{column}": {text}}}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2: the column '{column}' has half of a surrogate pair"):
        plugrad.load("environment", "jsonl", path=tmp_path / "rows.jsonl")


def test_without_a_reward_only_replayed_completions_can_be_scored(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1", "reference": "2"}\n')
    environment = plugrad.load("environment", "jsonl", path=tmp_path / "rows.jsonl")
    (example,) = environment.train_examples()
    assert environment.score([{**rollout(example, "2"), "inference_logprobs": None}]) == [0.0]
    with pytest.raises(DataError, match=r'no reward function for a sampled .*reward = "rewards\.py:FUNCTION"'):
        environment.score([{**rollout(example, "2"), "inference_logprobs": [-1.0]}])
