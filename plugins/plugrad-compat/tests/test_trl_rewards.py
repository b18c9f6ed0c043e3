"""TRL's reward functions: called as GRPOTrainer calls them, over a dataset of the `datasets` package."""

from __future__ import annotations

import json

import pytest

import plugrad
from plugrad import ContractError, DataError, PluginError
from plugrad.testing import rollouts
from plugrad_compat.trl.environment import TrlRewards


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    package = pytest.importorskip("datasets", reason="pip install 'plugrad-compat[datasets]'")
    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return package


@pytest.fixture
def sums(tmp_path):
    rows = [{"prompt": f"{i}+1=", "ground_truth": str(i + 1), "task": "math" if i % 2 else "code"} for i in range(8)]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def made(path, target, *names, **options):
    return TrlRewards(path, [target("trl_rewards", name) for name in names], **options)


def completed(environment, texts):
    """Return one rollout for each text, of the first examples in turn, two each."""
    ((*found,),) = rollouts([[float("nan")] * len(texts)])
    for index, (rollout, text) in enumerate(zip(found, texts, strict=True)):
        rollout.update(completion=text, example=environment.train_examples()[index // 2], policy_versions=[index])
    return found


def test_the_columns_arrive_under_their_names(sums, target):
    environment = made(sums, target, "correct")
    found = environment.score(completed(environment, ["1", "2", "2", "1"]))
    assert [score["reward"] for score in found] == [1.0, 0.0, 1.0, 0.0]


def test_several_functions_have_weights_and_their_own_numbers(sums, target):
    environment = made(sums, target, "correct", "reward_func", weights=[2.0, 0.1])
    first, second = environment.score(completed(environment, ["1", "abc"]))
    assert first == {"correct": 1.0, "reward_func": 1.0, "reward": pytest.approx(2.1)}
    assert second == {"correct": 0.0, "reward_func": 3.0, "reward": pytest.approx(0.3)}


def test_none_leaves_a_function_out(sums, target):
    environment = made(sums, target, "math_reward_func", "reward_func")
    code, _, maths, wrong = environment.score(completed(environment, ["a", "a", "2", "x"]))
    assert code == {"reward_func": 1.0, "reward": 1.0}
    assert (maths["reward"], wrong["reward"]) == (2.0, 1.0)


def test_where_every_function_says_none_there_is_no_advantage(sums, target, written, caplog):
    path = written("def sometimes(completions, **kwargs): return [1.0 if c == 'yes' else None for c in completions]")
    environment = TrlRewards(sums, f"{path}:sometimes")
    found = environment.score(completed(environment, ["yes", "no", "no", "no"]))
    assert [score["reward"] for score in found] == [1.0, 1.0, 0.0, 0.0]
    assert "every reward function returned None" in caplog.text


def test_what_they_log_is_in_the_rollouts(sums, target):
    environment = made(sums, target, "logging_reward")
    batch = completed(environment, ["1", "2", "11", "3"])
    environment.score(batch)
    assert [rollout["metrics"] for rollout in batch] == [{"ones/mean": 0.5, "step": 3.0}] * 4
    assert [rollout["info"]["has_a_one"] for rollout in batch] == [1.0, 0.0, 1.0, 0.0]


def test_asynchronous_functions_are_awaited(sums, target):
    environment = made(sums, target, "async_reward_func")
    found = environment.score(completed(environment, ["0+1=1", "2"]))
    assert [score["reward"] for score in found] == [1.0, 0.0]


def test_asynchronous_functions_wait_together_and_keep_one_loop(sums, written):
    path = written(
        """
        import asyncio
        import threading

        met = []

        async def wait(completions):
            met.append(asyncio.get_running_loop())
            for _ in range(200):
                if len(met) % 2 == 0:
                    return [1.0] * len(completions)
                await asyncio.sleep(0.01)
            raise TimeoutError("the other never came")

        async def first(completions, **kwargs):
            return await wait(completions)

        async def second(completions, **kwargs):
            return await wait(completions)

        def here(completions, **kwargs):
            return [float(threading.current_thread() is threading.main_thread())] * len(completions)

        def loops(completions, **kwargs):
            return [float(len(set(map(id, met))))] * len(completions)
        """,
        "judges.py",
    )
    environment = TrlRewards(sums, [f"{path}:{name}" for name in ("loops", "first", "here", "second")])
    batch = completed(environment, ["a"])
    environment.score(batch)
    (found,) = environment.score(batch)
    assert found == {"loops": 1.0, "first": 1.0, "second": 1.0, "here": 1.0, "reward": 4.0}


def test_an_asynchronous_function_that_raises_says_whose_it_is(sums, written):
    path = written("async def judge(completions, **kwargs): return [1 / 0]")
    environment = TrlRewards(sums, f"{path}:judge")
    with pytest.raises(ContractError, match=r"judge' raised ZeroDivisionError: division by zero"):
        environment.score(completed(environment, ["a"]))


def test_what_trainer_state_has_not_is_said(sums, written):
    path = written("def shaped(completions, trainer_state, **kwargs): return [trainer_state.max_steps]")
    environment = TrlRewards(sums, f"{path}:shaped")
    with pytest.raises(ContractError, match="trainer_state has no 'max_steps' here: it has only global_step"):
        environment.score(completed(environment, ["a"]))


def test_the_completion_of_a_conversation_is_a_message(tmp_path, target):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"prompt": [{"role": "user", "content": "2+2?"}]}) + "\n")
    environment = made(path, target, "format_reward_func")
    assert environment.train_examples()[0]["prompt"] == [{"role": "user", "content": "2+2?"}]
    batch = completed(environment, ["<think>4</think><answer>4</answer>", "4"])
    assert [score["reward"] for score in environment.score(batch)] == [1.0, 0.0]


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet", "folder", "dictionary"])
def test_what_a_dataset_may_be(tmp_path, target, datasets, ending):
    made_here = datasets.Dataset.from_list([{"prompt": f"{i}", "ground_truth": str(i)} for i in range(4)])
    path = tmp_path / f"data.{ending}"
    if ending == "folder":
        made_here.save_to_disk(path)
    elif ending == "dictionary":
        datasets.DatasetDict({"train": made_here, "test": made_here.select([0])}).save_to_disk(path)
    else:
        {"json": made_here.to_json, "jsonl": made_here.to_json, "csv": made_here.to_csv, "parquet": made_here.to_parquet}[
            ending
        ](path)
    environment = made(path, target, "correct", eval_split="test" if ending == "dictionary" else None)
    assert [str(example["prompt"]) for example in environment.train_examples()] == ["0", "1", "2", "3"]
    assert len(environment.eval_examples()) == (1 if ending == "dictionary" else 0)


def test_some_are_held_out(sums, target):
    first, again = (made(sums, target, "correct", num_eval=3, seed=1) for _ in range(2))
    train, held_out = ([e["example_id"] for e in part] for part in (first.train_examples(), first.eval_examples()))
    assert (len(train), len(held_out)) == (5, 3)
    assert not set(train) & set(held_out)
    assert held_out == [e["example_id"] for e in again.eval_examples()]


def test_a_run_names_it_and_finds_its_files_beside_the_run_file(sums, written, monkeypatch):
    written("def by_length(completions, **kwargs): return [float(len(c)) for c in completions]", "rewards.py")
    monkeypatch.chdir(sums.parent)
    environment = plugrad.load(
        "environment", "plugrad-compat/trl", dataset="sums.jsonl", rewards=["./rewards.py:by_length"], num_eval=2
    )
    assert [score["reward"] for score in environment.score(completed(environment, ["12", "1"]))] == [2.0, 1.0]


BAD = {
    "a number too few": (
        "def f(completions, **kwargs): return [1.0]",
        ContractError,
        "returned 1 rewards for 2 completions",
    ),
    "a string": ("def f(completions, **kwargs): return ['1.5', '2']", DataError, "returned '1.5' for the completion 'a'"),
    "infinity": (
        "def f(completions, **kwargs): return [float('inf'), 1]",
        DataError,
        "a reward is a finite number, or None",
    ),
    "nothing": ("def f(completions, **kwargs): ...", ContractError, "returned NoneType; return a list"),
    "an exception": (
        "def f(completions, **kwargs): return [c.foo for c in completions]",
        ContractError,
        "raised AttributeError",
    ),
    "a column that is not there": (
        "def f(completions, solution): ...",
        PluginError,
        r"asks for 'solution', which is neither a column of the dataset \(prompt, ground_truth, task\)",
    ),
    "plugrad's own": (
        "def f(completion, example): ...",
        PluginError,
        "is not a TRL reward function: it does not take 'completions'",
    ),
    "a loss": ("def f(log_probs, old_log_probs, advantages, config): ...", PluginError, "It looks like a SkyRL policy loss"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_of_another_shape_is_told_so(case, sums, written, target):
    code, error, complaint = BAD[case]
    path, whole = written(code), TrlRewards(sums, target("trl_rewards", "reward_func"))
    with pytest.raises(error, match=complaint):
        TrlRewards(sums, f"{path}:f").score(completed(whole, ["a", "b"]))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"prompt_column": "question"}, r"has no column 'question'\. It has prompt, ground_truth, task\. Set prompt_column"),
        ({"num_eval": 8}, "num_eval is 8, but the dataset has 8 examples"),
        ({"weights": [1.0, 2.0]}, "there are 1 reward functions but 2 weights"),
    ],
)
def test_options_that_cannot_be(options, complaint, sums, target):
    with pytest.raises(DataError, match=complaint):
        made(sums, target, "reward_func", **options)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"prompt": "a"}\n{"prompt": "b"', r"line 2 is not JSON: Expecting ',' delimiter at column 15"),
        ('{"prompt": "a"}\n\n["b"]\n', "line 3 is list; each line is one JSON object"),
        ("", "has no column 'prompt'"),
    ],
)
def test_lines_that_cannot_be(text, complaint, tmp_path, target):
    (tmp_path / "bad.jsonl").write_text(text)
    with pytest.raises(DataError, match=complaint):
        made(tmp_path / "bad.jsonl", target, "reward_func")


def test_a_column_that_a_line_lacks_is_none(tmp_path, target):
    (tmp_path / "ragged.jsonl").write_text('{"prompt": "a", "answer": "1"}\n{"prompt": "b"}\n')
    assert [row["answer"] for row in made(tmp_path / "ragged.jsonl", target, "reward_func").train_examples()] == ["1", None]


def test_a_dataset_that_cannot_be_read(tmp_path, target, datasets):
    from pathlib import Path

    with pytest.raises(
        DataError, match=r"the split 'train' of the dataset 'nobody/nothing' cannot be read: .* then on the hub"
    ):
        made(Path("nobody/nothing"), target, "reward_func")
    (tmp_path / "data.xls").write_text("x")
    with pytest.raises(DataError, match=r"is a file of no known kind\. Known are \.json"):
        made(tmp_path / "data.xls", target, "reward_func")


def test_no_reward_functions(sums):
    with pytest.raises(DataError, match="rewards is empty"):
        TrlRewards(sums, [])
