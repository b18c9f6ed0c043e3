"""An environment plays with the policy: the rollouts that come of it, and plays that fail."""

import asyncio
import math

import pytest
from accelerate import Accelerator

from plugrad import ContractError, DataError
from plugrad.host.environment import BoundEnvironment
from plugrad.rollout.engine import Sampling
from plugrad.rollout.texts import Texts
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.rollout.turns.player import PlayLimits
from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.testing.engines.engine_trial import largest_mismatch_of_turns
from plugrad.trainer.batch.failed_plays import check_failures
from plugrad.trainer.batch.playing import Playing
from plugrad.trainer.ranks.ranks import Ranks

EXAMPLES = [{"example_id": 0, "prompt": "1+1="}, {"example_id": 1, "prompt": "23+2="}]
SAMPLING = Sampling(num_completions=4, max_new_tokens=3, temperature=1.0, seed=0)
ENGINE = TransformersEngine(tiny_model(), tiny_tokenizer(), 8)


class Environment:
    """Plays as a test wants."""

    def __init__(self, play):
        self.play = play


@pytest.fixture
def played():
    """Play with two examples, four times each."""

    def make(play, engine=ENGINE, **limits):
        bound = {"max_new_tokens": 3, "max_turns": 8, "longest_row": 64, "seconds": 60.0} | limits
        playing = Playing(
            engine, BoundEnvironment("the environment", Environment(play)), Texts(tiny_tokenizer()), PlayLimits(**bound)
        )
        groups = playing.sample(EXAMPLES, SAMPLING)
        check_failures(groups, playing.environment, Ranks.of(Accelerator(cpu=True)))
        return groups

    return make


async def two_turns(example, policy):
    chat = policy.chat(example["prompt"])
    await chat.reply()
    chat.reward(0.25)
    chat.add("user", "+3=")
    await chat.reply(max_new_tokens=2)
    return {"right": 0.5}


def sampled(segment):
    return [token for token, counts in zip(segment["ids"], segment["sampled"], strict=True) if counts]


def test_a_rollout_holds_what_was_sampled_and_where_it_stands(played):
    groups = played(two_turns)
    assert [len(group) for group in groups] == [4, 4]
    for group, example in zip(groups, EXAMPLES, strict=True):
        for rollout in group:
            [segment] = rollout["segments"]
            assert sampled(segment) == rollout["completion_ids"]
            assert segment["ids"][: len(rollout["prompt_ids"])] == rollout["prompt_ids"]
            assert len(rollout["inference_logprobs"]) == len(rollout["completion_ids"]) == len(rollout["policy_versions"])
            first, said, second = rollout["turns"]
            assert (first["role"], said["role"], second["role"]) == ("assistant", "user", "assistant")
            assert (first["start"], first["stop"]) == (0, second["start"])
            assert (said["start"], said["stop"]) == (second["start"], second["start"])
            assert second["stop"] == len(rollout["completion_ids"])
            assert (first["reward"], second["reward"]) == (0.25, None)
            assert rollout["reward"] == 0.75
            assert rollout["reward_components"] == {"right": 0.5, "turns": 0.25}
            assert rollout["example"] == example


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 5e-7)])
def test_every_reply_has_the_trainers_log_probs(played, dtype, tolerance):
    """Computed in float64, they differ by the rounding of the float32 in which rollouts hold them."""
    model = tiny_model(dtype=dtype)
    engine = TransformersEngine(model, tiny_tokenizer(), 8)
    rollouts = [rollout for group in played(two_turns, engine) for rollout in group]
    assert largest_mismatch_of_turns(rollouts, model, SAMPLING.temperature) < tolerance


def test_the_same_seed_plays_the_same(played):
    async def slowly(example, policy):
        await asyncio.sleep(0.001 * example["example_id"])
        return await two_turns(example, policy)

    tokens = [[rollout["completion_ids"] for group in played(play) for rollout in group] for play in (two_turns, slowly)]
    assert tokens[0] == tokens[1]
    assert len({tuple(ids) for ids in tokens[0]}) > 1


@pytest.mark.parametrize("limits", [{"max_turns": 2}, {"longest_row": 14}])
def test_a_play_ends_at_its_limits_with_the_rewards_of_its_turns(played, limits):
    async def endless(example, policy):
        chat = policy.chat(example["prompt"])
        while True:
            await chat.reply()
            chat.reward(1.0)
            chat.add("user", "+")

    for group in played(endless, **limits):
        for rollout in group:
            assert rollout["truncated"]
            assert rollout["reward"] == sum(turn["role"] == "assistant" for turn in rollout["turns"])
            assert max(len(segment["ids"]) for segment in rollout["segments"]) <= limits.get("longest_row", 64)


def test_several_conversations_of_a_play_are_segments_of_one_rollout(played):
    async def twice(example, policy):
        replies = await asyncio.gather(policy.chat(example["prompt"]).reply(), policy.chat("7+7=").reply())
        return sum(reply.num_tokens for reply in replies)

    for rollout in played(twice)[0]:
        assert len(rollout["segments"]) == 2
        assert [token for segment in rollout["segments"] for token in sampled(segment)] == rollout["completion_ids"]
        assert rollout["reward"] == len(rollout["completion_ids"])


def test_a_play_that_fails_costs_its_rollout_alone(played, caplog):
    numbers = iter(range(8))

    async def fails_at_times(example, policy):
        number = next(numbers)
        await policy.chat(example["prompt"]).reply()
        if number == 1:
            raise ValueError("no such move")
        return float(number)

    first, second = played(fails_at_times)
    assert first[1]["completion_ids"] == []
    assert "no such move" in first[1]["info"]["failed"]
    assert [rollout["reward"] for rollout in first] == pytest.approx([0, 5 / 3, 2, 3]), "the mean of the others"
    assert [rollout["reward"] for rollout in second] == [4, 5, 6, 7]
    assert [rollout["metrics"]["failed"] for rollout in first] == [0, 1, 0, 0]
    assert "1 play of 8 failed" in caplog.text


async def hangs(example, policy):
    await asyncio.Event().wait()


def test_where_more_than_half_fail_the_run_ends(played):
    with pytest.raises(ContractError, match=r"the environment: 8 plays of 8 failed.*took more than 0.01 s of its own"):
        played(hangs, seconds=0.01)


async def nothing_finite(example, policy):
    return math.nan


def test_a_reward_that_is_no_number_ends_the_run(played):
    with pytest.raises(DataError, match=r"the environment returned the reward nan"):
        played(nothing_finite)
