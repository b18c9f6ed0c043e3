"""Runs of an environment with turns: what they record, and what is refused before a model is loaded."""

import json

import pytest

from plugrad import DataError, RunFileError
from plugrad.replay.chosen_losses import chosen_losses
from plugrad.replay.replay_outcome import replayed
from plugrad.testing.checks import Outcome, run_checks
from plugrad.testing.losses.on_capture import checks_on_capture
from plugrad.trainer.capture.capture_files import read_capture

GAME = """
class Game:
    teacher = {}

    def train_examples(self):
        return [{"prompt": f"{a}+1=", "reference": str(a), **self.teacher} for a in range(8)]

    def eval_examples(self):
        return []

    async def play(self, example, policy):
        chat = policy.chat(example["prompt"])
        await chat.reply()
        chat.reward(0.25)
        chat.add("user", "+2=")
        reply = await chat.reply()
        if example["reference"] == "3" and policy.__class__.__name__ == "PolicyPlayer":
            raise ValueError("the board broke")
        return reply.num_tokens / 4


class Twice(Game):
    def train_examples(self):
        return super().train_examples()[:2]

    async def play(self, example, policy):
        of_first = await super().play(example, policy)
        await policy.chat("7+" + example["reference"]).reply()
        return of_first


class Pictures(Game):
    def train_examples(self):
        part = {"type": "image_url", "image_url": {"url": "cat.png"}}
        return [{"prompt": [{"role": "user", "content": [part]}]}]


class FailsGreedily(Game):
    # After the 16 plays of the first step come the 8 greedy ones.
    num = 0

    async def play(self, example, policy):
        number = self.num
        self.num += policy.__class__.__name__ == "PolicyPlayer"
        reply = await policy.chat(example["prompt"]).reply()
        if number >= 16 and example["reference"] in "35":
            raise ValueError("no board is left")
        return reply.num_tokens + number % 2


class Taught(Game):
    teacher = {"teacher_prompt": "1+1="}
"""
BASELINE = """
from plugrad import AdvantageOutputs, advantage

@advantage(needs={"greedy_rewards"})
def greedy_baseline(inputs):
    return AdvantageOutputs(inputs.rewards - inputs.greedy_rewards.unsqueeze(1))
"""
LOSSES = """
import plugrad

@plugrad.loss(whole_batch=True)
def at_once(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
    return in_parts(inputs)

@plugrad.loss
def in_parts(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
    return plugrad.LossOutputs(-inputs.advantages * inputs.trainer_logprobs * inputs.loss_mask)
"""
ROLLOUT = {"prompts_per_step": 8, "rollouts_per_example": 2, "max_new_tokens": 3}


@pytest.fixture
def game(write, run_file):
    write("game.py", GAME)

    def make(name="Game", **tables):
        return {"environment": {"name": f"game.py:{name}"}, "rollout": ROLLOUT, "max_steps": 1, **tables}

    return make


def test_samples_show_what_the_environment_wrote_and_why_a_play_failed(run, game):
    result = run(**game(samples={"num": 16}))
    [record] = result.records
    assert record["environment/failed"] == pytest.approx(1 / 8)
    assert record["environment/turns"] == 2
    samples = [json.loads(line) for line in (result.folder / "samples.jsonl").read_text().splitlines()]
    failed = [sample for sample in samples if "failed" in sample]
    assert len(failed) == 2
    assert all("Game" in sample["failed"] and "the board broke" in sample["failed"] for sample in failed)
    assert [turn["role"] for turn in failed[0]["turns"]] == ["assistant", "user", "assistant"]
    assert not any(turn["length"] for turn in failed[0]["turns"])
    for sample in (sample for sample in samples if "failed" not in sample):
        first, said, second = sample["turns"]
        assert (first["role"], first["reward"], said["role"], said["text"]) == ("assistant", 0.25, "user", "+2=")
        assert (first["length"] + second["length"], said["length"]) == (sample["length"], 0)
        assert "segment" not in said
        assert "segments" not in sample
        assert sample["completion"].startswith(first["text"])
        assert f"+2={second['text']}" in sample["completion"]


def test_a_greedy_play_that_fails_is_counted_and_no_baseline_of_zero(run, game, write, caplog):
    write("baseline.py", BASELINE)
    result = run(**game("FailsGreedily", advantage={"name": "baseline.py:greedy_baseline"}, samples={"num": 16}))
    [record] = result.records
    assert (record["failed_greedy_plays"], record["environment/failed"]) == (2, 0)
    assert "2 plays of 24 failed, most often so" in caplog.text
    assert "no board is left" in caplog.text
    samples = [json.loads(line) for line in (result.folder / "samples.jsonl").read_text().splitlines()]
    for prompt in ("3+1=", "5+1="):
        of_example = [sample for sample in samples if sample["prompt"] == prompt]
        rewards = [sample["reward"] for sample in of_example]
        expected = [reward - sum(rewards) / 2 for reward in rewards]
        assert [sample["advantage"] for sample in of_example] == pytest.approx(expected)
        assert min(rewards) > 0


def test_a_capture_tells_segments_replies_and_what_the_environment_wrote_apart(run, game, write):
    write("own_losses.py", LOSSES)
    losses = [{"name": f"own_losses.py:{name}"} for name in ("at_once", "in_parts")]
    settings = {"capture": {"steps": [1]}, "rollout": {**ROLLOUT, "prompts_per_step": 2, "rollouts_per_example": 4}}
    result = run(**game("Twice", loss=losses, tokens_per_micro_batch=32, samples={"num": 8}, **settings))
    capture = read_capture(result.folder / "captures" / "step_000001")
    sequences = replayed(capture, chosen_losses(capture)).table.sequences
    assert [each.segment for each in sequences] == [0, 1] * 8
    assert sequences[1].title.startswith("group 0, rollout 0, segment 2 of 2: ")
    pushed = 0.0
    for each in sequences:
        assert each.prompt_length == (4, 3)[each.segment]
        assert sum(each.marks.get("given", ())) == 3 * (each.segment == 0)
        assert not any(each.marks["masked"])
        at_once, in_parts = (each.values[f"gradient: {name}"] for name in ("at_once", "in_parts"))
        assert at_once == pytest.approx(in_parts)
        pushed = max(pushed, *(abs(value) for value in at_once if value))
    assert pushed > 0
    checks = run_checks(list(checks_on_capture(capture.facts["losses"][0]["reference"], capture)))
    assert {check.outcome for check in checks} <= {Outcome.KEPT, Outcome.NOT_APPLICABLE}
    samples = [json.loads(line) for line in (result.folder / "samples.jsonl").read_text().splitlines()]
    assert {tuple(turn.get("segment") for turn in sample["turns"]) for sample in samples} == {(0, None, 0, 1)}
    assert {sample["segments"][1][-2:] for sample in samples} == {"+0", "+1"}


def test_an_engine_that_replays_needs_a_score(run, game):
    with pytest.raises(RunFileError, match=r'"dataset" replays completions, and .*Game.* only plays.*Give it a method'):
        run(**game(rollout={**ROLLOUT, "engine": "dataset"}, loss={"name": "cross_entropy"}))


def test_images_are_refused(run, game):
    with pytest.raises(DataError, match=r"the prompt of example 0 .* trains on text alone.*not supported"):
        run(**game("Pictures"))


def test_a_prompt_for_teachers_is_refused(run, game):
    with pytest.raises(DataError, match=r"'teacher_prompt', and it plays"):
        run(**game("Taught"))
