"""What a run makes of prompts and completions: special tokens, templates, stop strings, and prompts that are too long."""

import json

import pytest
from tokenizers import AddedToken

from plugrad import ContractError, DataError, RunFileError
from plugrad.testing import tiny_model, tiny_tokenizer

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if quiet is defined %}~{% endif %}{% endif %}"
)
SEEN = """
seen = []


def reward(completion, example):
    seen.append((completion, example["example_id"]))
    return float(len(seen) % 2)
"""


@pytest.fixture
def examples(tmp_path, write):
    """Write examples and a reward that keeps what it sees; return the environment's table and what was seen."""

    def make(rows, **options):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        write("keeping.py", SEEN)
        return {"name": "jsonl", "kwargs": {"path": "rows.jsonl", "reward": "keeping.py:reward", **options}}

    return make


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """Save a model whose tokenizer has a chat template and added special tokens."""
    folder, tokenizer = tmp_path_factory.mktemp("model"), tiny_tokenizer()
    special = [AddedToken(token, special=True) for token in ("<call>", "<end>", "<user>", "<assistant>")]
    tokenizer.add_tokens(special, special_tokens=True)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    tiny_model(vocab_size=len(tokenizer), max_position_embeddings=48).save_pretrained(folder)
    return folder


@pytest.fixture
def replay(run, model_folder, examples):
    """Run on references, one step; return what the reward saw in it."""

    def replay_it(rows, **rollout):
        table = {"engine": "dataset", "prompts_per_step": len(rows), "rollouts_per_example": 1, "max_new_tokens": 8}
        run(
            environment=examples(rows), model={"name": str(model_folder)}, rollout={**table, **rollout}, max_steps=1,
            loss={"name": "cross_entropy"},
        )  # fmt: skip
        return sorted(_seen())

    return replay_it


def _seen():
    import sys

    (module,) = [m for m in sys.modules.values() if (getattr(m, "__file__", None) or "").endswith("keeping.py")]
    return set(module.seen)


@pytest.mark.parametrize(("skips", "seen"), [(False, "<call>f()"), (True, "f()")])
def test_the_reward_sees_special_tokens_unless_they_are_skipped(replay, skips, seen):
    rows = [{"prompt": "2+2=", "reference": "<call>f()"}, {"prompt": [{"role": "user", "content": "?"}], "reference": "4"}]
    # In the pre-flight, too: it calls the reward on the references.
    assert replay(rows, skip_special_tokens=skips) == [("4", "rows.jsonl:2"), (seen, "rows.jsonl:1")]


def test_a_stop_string_ends_completions(run, examples):
    rows = [{"prompt": f"{digit}=", "reference": "0"} for digit in range(10)]
    rollout = {"prompts_per_step": 8, "rollouts_per_example": 4, "max_new_tokens": 12, "stop": ["4", "5"]}
    run(environment=examples(rows), rollout=rollout, max_steps=1)
    completions = [completion for completion, _ in _seen()]
    assert any(completion.endswith(("4", "5")) for completion in completions)
    assert not any(digit in completion[:-1] for digit in "45" for completion in completions)


def test_prompts_that_are_too_long_are_all_named(run, examples):
    rows = [{"prompt": "1" * length, "reference": "1"} for length in (2, 40, 3, 50, 60, 70, 80)]
    environment = examples(rows, num_eval=0)
    rollout = {"prompts_per_step": 2, "rollouts_per_example": 2, "max_new_tokens": 4}
    with pytest.raises(DataError) as caught:
        run(environment=environment, rollout=rollout, tokens_per_micro_batch=32)
    message = str(caught.value).splitlines()
    assert message[0] == "5 of 7 prompts are too long:"
    assert message[1] == ("  example 'rows.jsonl:2' can reach 44 tokens with its completion; tokens_per_micro_batch is 32")
    assert message[-2] == "  and 2 more"
    assert "raise tokens_per_micro_batch to at least 84" in message[-1]
    assert message[-1].endswith("or set rollout.drop_long_prompts = true to leave them out.")


def test_prompts_that_are_too_long_are_left_out_and_counted(run, examples, caplog):
    rows = [{"prompt": "1" * length, "reference": "1"} for length in (2, 40, 3, 50)]
    rollout = {"prompts_per_step": 2, "rollouts_per_example": 2, "max_new_tokens": 4, "drop_long_prompts": True}
    result = run(environment=examples(rows), rollout=rollout, tokens_per_micro_batch=32)
    assert {example for _, example in _seen()} == {"rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:3"}
    assert result.series("dropped_prompts") == [(1, 2), (2, 2), (3, 2)]
    assert json.loads((result.folder / "plugins.json").read_text())["dropped_prompts"] == 2
    assert "2 prompts are left out, because they are too long" in caplog.text


def test_the_context_bounds_held_out_prompts_too(run, examples, model_folder):
    rows = [{"prompt": "1" * length, "reference": "1"} for length in (2, 3, 60)]
    rollout = {"prompts_per_step": 2, "rollouts_per_example": 2, "max_new_tokens": 4}
    with pytest.raises(DataError, match=r"1 of 3 prompts is too long:\n.*has 60 tokens, but the model's context leaves 44"):
        run(environment=examples(rows), rollout=rollout, model={"name": str(model_folder)})


def test_dropping_may_not_leave_nothing(run, examples):
    rows = [{"prompt": "1" * 40, "reference": "1"}]
    rollout = {"prompts_per_step": 2, "rollouts_per_example": 2, "max_new_tokens": 4, "drop_long_prompts": True}
    with pytest.raises(DataError, match="Without them, nothing is left: shorten them"):
        run(environment=examples(rows), rollout=rollout, tokens_per_micro_batch=32)


@pytest.mark.parametrize(
    ("rollout", "message"),
    [
        ({"chat_template_kwargs": {"add_generation_prompt": False}}, "add_generation_prompt cannot be set"),
        ({"stop": [""]}, "stop"),
    ],
)
def test_settings_that_cannot_be(run_file, rollout, message):
    with pytest.raises(RunFileError, match=message):
        run_file(rollout=rollout)


def test_replayed_references_need_no_reward(run, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1=", "reference": "1"}\n{"prompt": "2=", "reference": "2"}\n' * 2)
    environment = {"name": "jsonl", "kwargs": {"path": "rows.jsonl", "num_eval": 1}}
    tables = {"environment": environment, "loss": {"name": "cross_entropy"}}
    rollout = {"engine": "dataset", "prompts_per_step": 2, "rollouts_per_example": 1, "max_new_tokens": 4}
    assert [reward for _, reward in run(**tables, rollout=rollout).series("reward")] == [0.0, 0.0, 0.0]
    sampling = {"rollout": {**rollout, "engine": "transformers", "rollouts_per_example": 2}}
    evaluating = {"rollout": rollout, "evaluation": {"every_steps": 1}}
    for sampled in (sampling, evaluating):
        with pytest.raises(DataError, match="no reward function for a sampled completion"):
            run(**tables, **sampled)


@pytest.mark.parametrize("model", ["pretrained", "from scratch"])
def test_the_pre_flight_has_the_models_vocabulary_and_says_that_it_is_a_trial(run, model_folder, write, model):
    write(
        "teaching.py",
        """
        from plugrad import LossOutputs, loss


        @loss(needs={"logits", "input_ids"})
        def teaching(inputs):
            assert int(inputs.input_ids.max()) < inputs.logits.shape[-1]
            raise ValueError(f"{inputs.logits.shape[-1]} logits")
        """,
    )
    # Ten digits, +, = and three special tokens.
    tables, size = ({"model": {"name": str(model_folder)}}, 107) if model == "pretrained" else ({}, 15)
    said = rf"{size} logits \(.*teaching.py:7\) \(This was a trial before .* a vocabulary of {size}\.\)"
    with pytest.raises(ContractError, match=said):
        run(loss={"name": "teaching.py:teaching"}, **tables)


def test_a_run_says_what_its_tokenizer_cannot_read(run, examples, model_folder, caplog):
    rows = [{"prompt": "1+1=", "reference": "2"}, {"prompt": "\u4e00+\u4e00=", "reference": "\u4e8c"}]
    options = {"chat_template_kwargs": {"enable_thinkin": False}}
    rollout = {"prompts_per_step": 2, "rollouts_per_example": 2, "max_new_tokens": 2, **options}
    run(environment=examples(rows), rollout=rollout, model={"name": str(model_folder)}, max_steps=1)
    assert "the chat template does not read 'enable_thinkin'. It reads " in caplog.text
    assert "lacks the characters '\u4e00\u4e8c' of 1 examples, the first of them 'rows.jsonl:2'" in caplog.text
