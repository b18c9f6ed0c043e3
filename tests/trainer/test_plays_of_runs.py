"""Runs of an environment with turns: what they record, and what is refused before a model is loaded."""

import json

import pytest

from plugrad import DataError, RunFileError
from plugrad.report.listed_samples import _shown

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
    assert _shown(0, failed[0])["completion"].startswith("play failed: ")
    for sample in (sample for sample in samples if "failed" not in sample):
        first, said, second = sample["turns"]
        assert (first["role"], first["reward"], said["role"], said["text"]) == ("assistant", 0.25, "user", "+2=")
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


def test_an_engine_that_replays_needs_a_score(run, game):
    with pytest.raises(RunFileError, match=r'"dataset" replays completions, and .*Game.* only plays.*Give it a method'):
        run(**game(rollout={**ROLLOUT, "engine": "dataset"}, loss={"name": "cross_entropy"}))


def test_images_are_refused(run, game):
    with pytest.raises(DataError, match=r"the prompt of example 0 .* trains on text alone.*not supported"):
        run(**game("Pictures"))


def test_a_prompt_for_teachers_is_refused(run, game):
    with pytest.raises(DataError, match=r"'teacher_prompt', and it plays"):
        run(**game("Taught"))
