"""Runs on pairs and on examples of several tasks: `references`, `member`, and losses with a `where`."""

import json

import pytest

from plugrad import DataError, PluginError, RunFile, RunFileError

LOSSES = """
from typing import Literal

import torch
from plugrad import BatchLossInputs, LossInputs, LossOutputs, loss


@loss(needs={"reward", "input_ids", "member", "metadata"}, whole_batch=True)
def pairs(inputs: BatchLossInputs) -> LossOutputs:
    order = inputs.group_ids * 2 + inputs.member
    assert order.tolist() == sorted(order.tolist())
    summed = (inputs.trainer_logprobs * inputs.loss_mask).sum(dim=1)
    lengths = inputs.loss_mask.sum(dim=1).tolist()
    margin = summed[inputs.member == 0] - summed[inputs.member == 1]
    each = -torch.nn.functional.logsigmoid(margin).repeat_interleave(2) / 2
    by_member = {}
    for row, (place, example) in enumerate(zip(inputs.member.tolist(), inputs.metadata)):
        own = [length if other == row else None for other, length in enumerate(lengths)]
        by_member[f"{example['level']}/{('chosen', 'rejected')[place]}"] = own
    return LossOutputs(each, {"margin": margin.repeat_interleave(2), **by_member})


def counting(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs, {"seen": 1.0, "math": float(inputs.metadata["task"] == "math")})


@loss(whole_batch=True)
def of_one_sequence(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs)


def check(example, options):
    if example[options["column"]] == "none":
        raise ValueError("it has no task")


@loss(replayed=lambda options: options["by"] == "place", min_rollouts_per_example=2, check_example=check)
def reads(inputs: LossInputs, by: Literal["place", "length", "reward"] = "place", column: str = "task") -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs)


@loss(needs={"logits"}, whole_batch=True)
def of_logits(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs)
"""
PAIRS = [
    {"prompt": "1+1=", "references": ["11", "11"], "reference": "2", "task": "math", "level": 1},
    {"prompt": "2+1=", "references": ["111", "11"], "reference": "2", "task": "code 2", "level": 2},
    {"prompt": "3+1=", "references": ["1111", "11"], "reference": "2", "task": "math", "level": 3},
]


@pytest.fixture
def train_on(tmp_path, write, run):
    """Run on replayed rows, one step."""

    def train_it(rows=PAIRS, loss="pairs", rollouts=2, where=None, kwargs=None, engine="dataset", **tables):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        write("losses.py", LOSSES)
        return run(
            environment={"name": "jsonl", "kwargs": {"path": "rows.jsonl"}},
            rollout={
                "engine": engine,
                "prompts_per_step": len(rows),
                "rollouts_per_example": rollouts,
                "max_new_tokens": 8,
            },
            loss=[{"name": f"losses.py:{loss}", "kwargs": kwargs or {}, **({"where": where} if where else {})}],
            max_steps=1,
            **tables,
        )

    return train_it


@pytest.mark.parametrize("tokens", [24, 10_000])
def test_rollout_j_replays_entry_j_of_the_references(train_on, tokens):
    record = train_on(tokens_per_micro_batch=tokens).records[-1]
    # The end-of-sequence token counts too.
    for row in PAIRS:
        found = [record[f"pairs/{row['level']}/{which}"] for which in ("chosen", "rejected")]
        assert found == [len(text) + 1 for text in row["references"]]
    assert record["pairs/margin"] == record["pairs/margin"]


@pytest.mark.parametrize("tokens", [24, 10_000])
def test_a_loss_counts_the_examples_that_it_is_to_count(train_on, tokens):
    record = train_on(loss="counting", where={"task": "math"}, tokens_per_micro_batch=tokens).records[-1]
    assert record["counting/math"] == 1.0
    assert record["counting/seen"] == 1.0


def test_where_is_in_the_resolved_run_file(train_on, tmp_path):
    result = train_on(loss="counting", where={"task": ["math", "code 2"], "level": 1})
    again = result.folder / "run.toml"
    assert RunFile.load(again).loss[0].where == {"task": ["math", "code 2"], "level": 1}


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({"tsk": "math"}, r"the where of the loss 'counting' .* names the column 'tsk'.*Did you mean 'task'\?"),
        ({"task": "maths"}, r"none of the 3 examples .* meets it: task is 'math', 'code 2'\. The loss would never count"),
        ({"level": "1"}, r"level is 1, 2, 3\. .*A string is not a number"),
        ({"level": True}, "is { level = true }, and none.*true is not 1"),
        ({"level": [True, 9], "task": "math"}, r'is { level = \[true, 9\], task = "math" }, and none'),
        ({"task": "math", "level": 2}, "none of the 3 examples"),
    ],
)
def test_a_where_that_chooses_nothing_is_refused_before_the_model_loads(train_on, where, told):
    with pytest.raises(RunFileError, match=told):
        train_on(loss="counting", where=where)


@pytest.mark.parametrize(
    ("references", "told"),
    [
        (["1", "2", "3"], r"has 3, and rollout.rollouts_per_example is 2.*Set rollouts_per_example = 3"),
        (["1"], "has 1, and rollout.rollouts_per_example is 2"),
        ([], "has 0, and"),
        ("12", "must be a list of strings, one for each rollout"),
        (["1", 2], "must be a list of strings"),
        (None, "must be a list of strings"),
    ],
)
def test_references_that_are_not_one_for_each_rollout_are_refused(train_on, references, told):
    with pytest.raises(DataError, match=f"the column 'references' of example 'rows.jsonl:4'.*{told}"):
        train_on([*PAIRS, {"prompt": "5", "references": references, "task": "math"}])


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ("of_one_sequence", r"declares whole_batch and takes one sequence \(LossInputs\).*BatchLossInputs"),
        ("of_logits", "declares whole_batch and needs logits, which never exist for a whole batch. Pool first: `embedding`"),
    ],
)
def test_what_cannot_see_a_whole_batch_is_refused(train_on, loss, told):
    with pytest.raises(PluginError, match=told):
        train_on(loss=loss)


LATE = {"prompt": "5", "references": ["1", "2"], "level": 4}


@pytest.mark.parametrize(
    ("late", "told"),
    [
        (
            {"tas": "math"},
            r"it has no column 'task'\. Did you mean 'tas'\? It has example_id, prompt, references, level, tas",
        ),
        ({"task": "none"}, "ValueError: it has no task"),
    ],
)
def test_an_example_that_a_loss_cannot_use_is_found_before_the_model_loads(train_on, late, told):
    with pytest.raises(DataError, match=rf"the loss 'reads' .* cannot use example 'rows.jsonl:4': {told}"):
        train_on([*PAIRS, {**LATE, **late}], loss="reads", model={"name": "no/such/model"})


def test_a_loss_reads_only_the_examples_that_it_counts(train_on):
    record = train_on([*PAIRS, {**LATE, "task": "none"}], loss="reads", where={"level": [1, 2, 3]}).records[-1]
    assert record["reads/loss"] > 0


def test_a_loss_that_tells_completions_apart_by_their_place_takes_no_sampled_ones(train_on):
    told = (
        r"the loss 'reads' .* by their place among its `references`, and the engine 'transformers' samples them.*"
        r'rollout\.engine = "dataset" and a column `references`, or .* with by = "length" under \[loss\.kwargs\]\.'
    )
    with pytest.raises(RunFileError, match=told):
        train_on(loss="reads", engine="transformers", model={"name": "no/such/model"})


def test_a_loss_may_need_several_rollouts(train_on):
    with pytest.raises(RunFileError, match=r"the loss 'reads' .* needs at least 2 rollouts per example.*another loss"):
        train_on(loss="reads", rollouts=1)
