"""The environment `hf`: rows to examples, what is held out, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from plugrad import DataError, OptionError, PluginError
from plugrad_environments.hf import HuggingFace

GSM8K = {"prompt": "Q: {question}\nA:", "reference": "answer", "reference_pattern": "#### (.+)"}


def made(dataset: Any, **options: Any) -> HuggingFace:
    return HuggingFace(dataset, **{**GSM8K, **options})


def test_columns_become_a_prompt_and_a_reference(sums):
    first = made(sums).train_examples()[5]
    assert first["prompt"] == "Q: 1+1=\nA:"
    assert first["reference"] == "2"
    assert first["n"] == 1
    assert first["example_id"] == "sums.jsonl:train:5"


def test_a_system_message_makes_a_chat(sums):
    prompt = made(sums, prompt="question", system="Be brief.").train_examples()[0]["prompt"]
    assert prompt == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "0+0="}]


def test_braces_that_are_text_are_written_twice(sums):
    assert made(sums, prompt="{{{question}}}").train_examples()[0]["prompt"] == "{0+0=}"


@pytest.mark.parametrize("suffix", ["csv", "parquet", "arrow", "saved"])
def test_every_format_gives_the_same_examples(sums, rows, tmp_path, suffix):
    import datasets

    path = tmp_path / f"sums.{suffix}"
    table = datasets.Dataset.from_list(rows)
    if suffix == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == "parquet":
        table.to_parquet(path)
    elif suffix == "arrow":
        import pyarrow

        schema = table.data.schema
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
            writer.write_table(table.data.table)
    else:
        table.save_to_disk(path)
    found = [{**example, "example_id": None} for example in made(path).train_examples()]
    assert found == [{**example, "example_id": None} for example in made(sums).train_examples()]


@pytest.mark.parametrize(("held_out", "number"), [(0.1, 2), (3, 3), (0.01, 1), (0, 0)])
def test_a_share_or_a_number_is_held_out(sums, held_out, number):
    environment = made(sums, held_out=held_out)
    train = {example["example_id"] for example in environment.train_examples()}
    held = {example["example_id"] for example in environment.eval_examples()}
    assert len(held) == number
    assert len(train) == 20 - number
    assert not train & held
    again = {example["example_id"] for example in made(sums, held_out=held_out).eval_examples()}
    assert held == again


def test_another_split_or_dataset_is_held_out(sums, tmp_path, rows):
    import datasets

    two = datasets.DatasetDict({"train": datasets.Dataset.from_list(rows), "test": datasets.Dataset.from_list(rows[:3])})
    two.save_to_disk(tmp_path / "two")
    assert len(made(tmp_path / "two", held_out="test").eval_examples()) == 3
    of_file = made(tmp_path / "two", held_out_dataset=sums, limit=4)
    assert (len(of_file.train_examples()), len(of_file.eval_examples())) == (4, 20)
    with pytest.raises(DataError, match=r"no split 'tset'. It has train, test. Did you mean 'test'\?"):
        made(tmp_path / "two", held_out="tset")


@pytest.mark.parametrize("streaming", [False, True])
def test_ids_are_those_of_the_rows_also_after_shuffling(sums, rows, streaming):
    examples = made(sums, shuffle=True, limit=6, streaming=streaming, seed=1).train_examples()
    numbers = [int(example["example_id"].rpartition(":")[2]) for example in examples]
    assert len(examples) == 6
    assert numbers != sorted(numbers)
    assert [rows[number]["question"] for number in numbers] == [example["question"] for example in examples]


REFUSED = {
    "the column is near another": (
        {"prompt": "{qestion}"},
        "'qestion'.*It has question, answer, n. Did you mean 'question'",
    ),
    "the reference does not exist": ({"reference": "anser"}, "reference names the column 'anser'"),
    "the answer is not found": ({"reference_pattern": "no (.+)"}, "sums.jsonl:train:0: reference_pattern = 'no"),
    "a pattern is none": ({"reference_pattern": "("}, "reference_pattern = '\\(' is no regular expression"),
    "a pattern has no column": ({"reference": None}, "Name the column that it is for"),
    "a brace is open": ({"prompt": "{question"}, "is no template"),
    "braces are empty": ({"prompt": "{}"}, "name of a column and nothing else"),
    "the prompt is a number": ({"prompt": "n"}, "sums.jsonl:train:0: the prompt is 0"),
    "the split does not exist": ({"split": "test"}, "Unknown split \"test\". Should be one of \\['train'\\]"),
    "all is held out": ({"held_out": 20}, "would hold out 20 of 20 rows"),
    "a share is too large": ({"held_out": 1.5}, "held_out = 1.5 is no share"),
    "a stream has no end": ({"streaming": True}, "Set limit"),
    "a reward is misspelt": ({"reward": "exact_mach"}, "Did you mean 'exact_match'"),
    "an option is misspelt": (
        {"reward": "exact_match", "reward_kwargs": {"exact_match": {"patern": "x"}}},
        "patern.*Did you mean 'pattern'",
    ),
    "options of no reward": ({"reward_kwargs": {"regex": {"pattern": "x"}}}, "no named reward of this run"),
    "weights are too many": ({"reward": "exact_match", "weights": [1.0, 2.0]}, "rewards: exact_match; weights: 1.0, 2.0"),
    "a reward needs a pattern": ({"reward": "regex"}, "set pattern, which has no default. It takes pattern, whole"),
    "there are no tests": ({"reward": "code_tests"}, "names the column 'tests'"),
}


@pytest.mark.parametrize(("options", "said"), REFUSED.values(), ids=REFUSED)
def test_it_refuses_and_says_what_there_is(sums, options, said):
    with pytest.raises((DataError, OptionError), match=said):
        made(sums, **options)


def test_files_that_cannot_be_read_are_named(sums, written, tmp_path):
    with pytest.raises(DataError, match=r"nothing.csv does not exist: it is neither a file"):
        made(Path("nothing.csv"))
    with pytest.raises(DataError, match=r"a file of no known kind. Known are .json, .jsonl, .csv"):
        made(Path(written("data.xlsx", "x")))
    with pytest.raises(DataError, match=r"b.jsonl cannot be read: ArrowInvalid"):
        made(Path(written("b.jsonl", '{"question": 1')))
    with pytest.raises(DataError, match=r"of one kind, and these are of several"):
        made([sums, Path(written("c.csv", "a"))])


def test_a_schema_may_have_a_file_of_its_own(sums, written, completed):
    pytest.importorskip("jsonschema")
    options = {"reward": "json_schema", "schema_file": Path(written("schema.json", '{\n  "type": "array"\n}\n'))}
    environment = made(sums, **options)
    rollouts = [completed(environment.train_examples()[0], text) for text in ("[1]", "{}")]
    assert environment.score(rollouts) == [1, 0]
    with pytest.raises(OptionError, match=r"is for the reward 'json_schema', and this run has exact_match"):
        made(sums, **{**options, "reward": "exact_match"})
    with pytest.raises(OptionError, match=r"schema_file and reward_kwargs.json_schema.schema are both set"):
        made(sums, **options, reward_kwargs={"json_schema": {"schema": {}}})
    for text, said in (("[", "JSONDecodeError"), ("[1]", "A JSON schema is a table")):
        with pytest.raises(OptionError, match=said):
            made(sums, reward="json_schema", schema_file=Path(written("other.json", text)))
    with pytest.raises(OptionError, match=r"nothing.json' cannot be read: FileNotFoundError"):
        made(sums, reward="json_schema", schema_file=Path("nothing.json"))


def test_pictures_are_refused(tmp_path):
    import datasets

    features = datasets.Features({"question": datasets.Value("string"), "picture": datasets.Image()})
    table = datasets.Dataset.from_dict({"question": ["What is it?"], "picture": [None]}, features=features)
    table.save_to_disk(tmp_path / "pictures")
    with pytest.raises(DataError, match=r"the column 'picture' of the dataset .* holds pictures or sound"):
        HuggingFace(tmp_path / "pictures", prompt="{picture}")
    (example,) = HuggingFace(tmp_path / "pictures", prompt="question").train_examples()
    assert "picture" not in example


def test_a_missing_package_is_named_with_its_command(sums, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(PluginError, match=r"needs the package datasets.*pip install 'plugrad-environments\[hf\]'"):
        made(sums)


def test_it_keeps_the_promises_of_an_environment(sums, tried):
    options = {**GSM8K, "dataset": str(sums), "held_out": 4, "reward": ["exact_match", "regex"]}
    options["reward_kwargs"] = {"regex": {"pattern": "^[0-9]+$"}}
    passed, skipped = tried("hf", options)
    assert passed == {
        "runs", "examples_stable", "example_ids", "held_out", "deterministic", "score_alone", "score_order",
        "rollouts_unchanged", "references", "odd_completions", "options_from_toml", "pickles",
    }  # fmt: skip
    assert skipped == {"asks", "tool_calls", "examples_unchanged", "resumes"}
