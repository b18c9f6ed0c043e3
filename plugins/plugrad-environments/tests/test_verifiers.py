"""The environment `verifiers`, with the real package: tasksets, harnesses, tools and rewards, in rollouts and in a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("verifiers.v1")

import plugrad
from plugrad import DataError, OptionError
from plugrad.host.environment import BoundEnvironment
from plugrad.rollout.engine import Completion, Sampling
from plugrad.rollout.texts import Texts
from plugrad.rollout.turns.player import PlayLimits
from plugrad.testing import tiny_model
from plugrad.trainer.batch.playing import Playing
from plugrad_environments.verifiers_tasks import Verifiers

TASKSETS = Path(__file__).parent / "tasksets"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALL = '<tool_call>\n{"name": "calc_multiply", "arguments": {"a": 17, "b": 23}}\n</tool_call>'


@pytest.fixture(scope="module")
def tokenizer():
    """Return a byte-level tokenizer with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator([], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet))
    found = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="<pad>")
    found.chat_template = CHATML
    return found


class Writes:
    """An engine that writes what it is told, one reply for each turn."""

    def __init__(self, tokenizer, *replies):
        self.tokenizer, self.replies = tokenizer, replies

    def generate(self, prompts, sampling):
        found = []
        for prompt in prompts:
            said = self.tokenizer.decode(prompt.ids).count("<|im_start|>assistant") - 1
            text = self.replies[min(said, len(self.replies) - 1)]
            ids = self.tokenizer(f"{text}<|im_end|>", add_special_tokens=False)["input_ids"]
            found.append([Completion(ids, [-1.0] * len(ids), False, [0] * len(ids))])
        return found


@pytest.fixture
def played(tokenizer):
    """Play with the first examples of a taskset; the policy writes what it is told."""

    def play(environment, *replies, num=1, num_examples=1, **limits):
        bound = {"max_new_tokens": 200, "max_turns": 8, "longest_row": 2048, "seconds": 60.0} | limits
        end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        texts = Texts(tokenizer, frozenset({end}))
        playing = Playing(
            Writes(tokenizer, *replies), BoundEnvironment("verifiers", environment), texts,
            PlayLimits(**bound, tool_format="hermes"),
        )  # fmt: skip
        sampling = Sampling(num_completions=num, max_new_tokens=200, temperature=1.0, seed=0)
        return playing.sample(environment.train_examples()[:num_examples], sampling)

    return play


def said_by_the_policy(rollout):
    return [turn["text"] for turn in rollout["turns"] if turn["role"] == "assistant"]


def test_its_tasks_are_the_examples():
    environment = Verifiers(TASKSETS / "plugrad_sums.py", eval_args={"taskset": {"split": "test"}})
    assert [example["prompt"][1]["content"] for example in environment.train_examples()] == [f"{a}+2=" for a in range(6)]
    first = environment.train_examples()[0]
    assert (first["example_id"], first["reference"]) == ("plugrad_sums:0", "2")
    assert first["prompt"][0] == {"role": "system", "content": "Add."}
    assert len(environment.eval_examples()) == 3
    drawn = Verifiers(TASKSETS / "plugrad_sums.py", size=3, num_eval=2, args={"taskset": {"system": False}})
    ids = {example["example_id"] for example in (*drawn.train_examples(), *drawn.eval_examples())}
    assert (len(drawn.train_examples()), len(drawn.eval_examples()), len(ids)) == (3, 2, 5)
    assert drawn.train_examples()[0]["prompt"][0]["role"] == "user"


def test_the_reward_is_the_weighted_sum_and_every_part_has_its_name(played):
    environment = Verifiers(TASKSETS / "plugrad_sums.py")
    [[right], [wrong]] = played(environment, "it is 2", num_examples=2)
    assert (right["reward"], wrong["reward"]) == (2.5, 0.5)
    assert right["reward_components"] == {"reward": 2.5, "right": 2.0, "said_something": 0.5, "turns_taken": 1.0}
    assert said_by_the_policy(right) == ["it is 2"]
    assert right["metrics"]["failed"] == 0.0


def test_turns_go_on_with_the_tokens_that_were_sampled(played, tokenizer):
    environment = Verifiers(TASKSETS / "plugrad_game.py", size=2)
    [[rollout]] = played(environment, "one", "two", "three")
    assert said_by_the_policy(rollout) == ["one", "two", "three"]
    assert (rollout["reward"], rollout["metrics"]["turns"]) == (3.0, 3.0)
    [row] = rollout["segments"]
    sampled = [token for token, counts in zip(row["ids"], row["sampled"], strict=True) if counts]
    assert sampled == rollout["completion_ids"]
    assert tokenizer.decode(row["ids"]).count("<|im_start|>user\nagain") == 2


def test_a_tool_is_called(played):
    environment = Verifiers(TASKSETS / "plugrad_tools.py")
    [[rollout]] = played(environment, CALL, "It is 391.")
    assert rollout["reward"] == 1.0
    assert said_by_the_policy(rollout) == [CALL, "It is 391."]
    assert [turn["text"] for turn in rollout["turns"] if turn["role"] == "tool"] == ["391"]
    assert len(rollout["segments"]) == 1


def test_a_rollout_at_its_limit_is_judged_as_it_is(played):
    environment = Verifiers(TASKSETS / "plugrad_game.py", size=2)
    [[rollout]] = played(environment, "on", max_turns=2)
    assert (rollout["reward"], rollout["truncated"], rollout["metrics"]["failed"]) == (2.0, True, 0.0)


def test_an_episode_that_fails_costs_its_rollout(played):
    environment = Verifiers(TASKSETS / "plugrad_game.py", args={"breaks": True}, size=3)
    [[whole], [failed], [other]] = played(environment, "x", num_examples=3)
    assert [rollout["metrics"]["failed"] for rollout in (whole, failed, other)] == [0.0, 1.0, 0.0]
    assert "the board is on fire" in failed["info"]["failed"]
    broken = Verifiers(TASKSETS / "plugrad_game.py", args={"rounds": 200, "timeout": {"episode": 0.01}}, size=1)
    [[failed]] = played(broken, "x", max_turns=500)
    assert "exceeded its 0.01s deadline" in failed["info"]["failed"]


def test_an_episode_that_hangs_costs_its_rollout(played):
    environment = Verifiers(TASKSETS / "plugrad_game.py", args={"hangs": True}, size=1)
    [[failed]] = played(environment, "x", seconds=0.5)
    assert "took more than 0.5 s of its own" in failed["info"]["failed"]


def test_a_taskset_brings_its_own_harness(played):
    environment = Verifiers(TASKSETS / "plugrad_rude.py")
    [[rollout]] = played(environment, "fine")
    assert (said_by_the_policy(rollout), rollout["reward"]) == (["fine"] * 2, 1.0)
    # It made other messages of what was said: another row.
    assert len(rollout["segments"]) == 2
    [[cut]] = played(environment, "fine", max_turns=1)
    assert (cut["reward"], cut["truncated"], cut["metrics"]["failed"]) == (0.0, True, 0.0)


def test_attempts_of_one_episode_are_rows_of_one_rollout(played):
    environment = Verifiers(TASKSETS / "plugrad_sums.py", args={"id": "best-of-n", "n": 3})
    [[rollout]] = played(environment, "2")
    assert len(rollout["segments"]) == 3
    assert rollout["reward"] == 2.5
    assert rollout["reward_components"]["pass_at_n"] == 1.0


def test_an_agent_that_is_not_trained_needs_a_model_of_its_own(played):
    environment = Verifiers(
        TASKSETS / "plugrad_sums.py", args={"id": "user-sim", "user": {"harness": {"id": "plugrad_chat"}}}
    )
    [[failed]] = played(environment, "hello")
    assert "the agent 'user', which is not to be trained, asked the policy" in failed["info"]["failed"]


REFUSED = {
    "no such package": ({"id": Path("no-such-taskset-v9")}, OptionError, "no package of this name is installed"),
    "no end": ({"id": TASKSETS / "plugrad_game.py"}, OptionError, "has no end. Set size"),
    "option": ({"id": TASKSETS / "plugrad_sums.py", "args": {"taskset": {"spilt": "x"}}}, OptionError, "spilt"),
    "all held out": ({"id": TASKSETS / "plugrad_sums.py", "num_eval": 6}, DataError, "holds out all 6 tasks"),
    "no Python": ({"id": Path(__file__).parent.parent / "pyproject.toml"}, OptionError, "is no Python file"),
}


@pytest.mark.parametrize(("options", "error", "said"), REFUSED.values(), ids=REFUSED)
def test_it_refuses_and_says_why(options, error, said):
    with pytest.raises(error, match=said):
        Verifiers(**options)


def test_a_file_with_the_name_of_another_module_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    (tmp_path / "json.py").write_text("")
    with pytest.raises(OptionError, match=r"as is .*Rename yours"):
        Verifiers(tmp_path / "json.py")


def test_it_keeps_the_promises_of_an_environment(tried):
    options = {"id": TASKSETS / "plugrad_sums.py", "num_eval": 2}
    passed, skipped = tried("verifiers", options)
    assert passed >= {"runs", "examples_stable", "example_ids", "held_out", "options_from_toml", "pickles"}
    # It reaches the policy at its address, and nothing is served in a check.
    assert skipped >= {"rollouts_unchanged", "asks", "tool_calls", "resumes"}


def test_two_steps_of_training(tmp_path, tokenizer):
    model = tiny_model(vocab_size=len(tokenizer))
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rollout = {"prompts_per_step": 2, "rollouts_per_example": 2, "max_new_tokens": 6}
    args = {"taskset": {"task": {"rewards": {"brief": {"fn": f"{TASKSETS / 'brief.py'}:brief"}}}}}
    run_file = plugrad.RunFile.model_validate(
        {
            "max_steps": 2,
            "output_dir": str(tmp_path / "run"),
            "model": {"name": str(tmp_path / "model")},
            "environment": {
                "name": "plugrad-environments/verifiers",
                "kwargs": {"id": str(TASKSETS / "plugrad_sums.py"), "num_eval": 2, "args": args},
            },
            "rollout": rollout,
            "evaluation": {"every_steps": 2},
        }
    )
    plugrad.train(run_file)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "environment/turns" in line]
    assert len(steps) == 2
    assert all(line["environment/failed"] == 0.0 for line in steps)
    assert any("brief" in name for name in steps[0])
    assert any(name.startswith("evaluation") or name.startswith("eval") for line in lines for name in line)
