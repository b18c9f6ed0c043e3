"""The limits of a play: they bound conversations that go on at once, too."""

import asyncio

import pytest

from plugrad import PlayEnded
from plugrad.rollout.engine import Completion
from plugrad.rollout.texts import Texts
from plugrad.rollout.turns.player import PlayLimits, PolicyPlayer
from plugrad.testing import tiny_tokenizer


@pytest.fixture
def player():
    """A policy that writes as much as it may."""

    async def ask(ids, most):
        await asyncio.sleep(0)
        return Completion([5] * most, [0.0] * most, truncated=True, policy_versions=[0] * most)

    def make(**limits):
        bound = {"max_new_tokens": 6, "max_turns": 8, "longest_row": 512, "seconds": 60.0} | limits
        return PolicyPlayer(ask, Texts(tiny_tokenizer()), PlayLimits(**bound))

    return make


def tokens(player):
    return sum(len(segment["ids"]) for segment in player.rollout({"example_id": 0, "prompt": "1+1="})["segments"])


async def at_once(player, number):
    return await asyncio.gather(*(player.chat("1+1=").reply() for _ in range(number)), return_exceptions=True)


def test_all_rows_of_a_rollout_share_its_tokens(player):
    # Two prompts of 4 tokens, and replies of 6 and 3.
    bound = player(max_tokens=17)
    first, second, third = asyncio.run(at_once(bound, 3))
    assert (first.num_tokens, second.num_tokens) == (6, 3)
    assert isinstance(third, PlayEnded)
    assert tokens(bound) == 17
    assert bound.rollout({"example_id": 0, "prompt": "1+1="})["truncated"]


def test_what_the_environment_writes_counts(player):
    async def play(bound):
        chat = bound.chat("1+1=")
        await chat.reply(max_new_tokens=2)
        chat.add("user", "+3=")
        return [(await chat.reply()).num_tokens, await chat.reply(max_new_tokens=1)]

    bound = player(max_tokens=12)
    with pytest.raises(PlayEnded):
        asyncio.run(play(bound))
    assert tokens(bound) == 12


def test_conversations_at_once_have_no_more_turns_together(player):
    bound = player(max_turns=2)
    *replies, last = asyncio.run(at_once(bound, 3))
    assert [reply.num_tokens for reply in replies] == [6, 6]
    assert isinstance(last, PlayEnded)


def test_messages_are_copies(player):
    chat = player().chat([{"role": "user", "content": "1+1="}])
    chat.messages[0]["content"] = "another"
    assert chat.messages[0]["content"] == "1+1="
