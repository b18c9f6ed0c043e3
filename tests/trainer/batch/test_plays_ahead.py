"""Plays that are sampled while the policy trains: the weights of every reply, seeds, and what a checkpoint keeps of them."""

import dataclasses
import io
from itertools import repeat
from threading import Event, current_thread, main_thread

import pytest
import torch

from plugrad.host.environment import BoundEnvironment
from plugrad.rollout.engine import Sampling
from plugrad.rollout.texts import Texts
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.rollout.turns.player import PlayLimits
from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.testing.engines.engine_trial import largest_mismatch_of_turns
from plugrad.trainer.batch.prefetch import Ahead, Drawing, WhenNeeded
from plugrad.trainer.batch.sampler import Sampler
from plugrad.trainer.checkpoints.kept_rollouts import kept, restored
from plugrad.trainer.ranks.ranks import Ranks

EXAMPLES = [{"example_id": 0, "prompt": "1+1="}, {"example_id": 1, "prompt": "23+2="}]
MODELS = [tiny_model(seed) for seed in (0, 1)]


class Engine:
    """Samples each round with the weights that it has then, those of one of two models."""

    def __init__(self):
        self.version = 0
        self._of = [TransformersEngine(model, tiny_tokenizer(), 16) for model in MODELS]

    def generate(self, prompts, sampling):
        version = self.version
        groups = self._of[version].generate(prompts, sampling)
        return [
            [dataclasses.replace(completion, policy_versions=[version] * len(completion.ids)) for completion in group]
            for group in groups
        ]


class Game:
    """Three replies. Before the last one, `between` is called."""

    def __init__(self, between=lambda: None):
        self.threads, self._between = set(), between

    async def play(self, example, policy):
        self.threads.add(current_thread())
        chat = policy.chat(example["prompt"])
        await chat.reply()
        chat.add("user", "+1=")
        await chat.reply(max_new_tokens=2)
        self._between()
        chat.add("user", "+2=")
        await chat.reply()
        return 1.0


@pytest.fixture
def drawing():
    def make(engine, game):
        limits = PlayLimits(max_new_tokens=4, max_turns=8, longest_row=64, seconds=60.0)
        sampler = Sampler(engine, BoundEnvironment("the game", game), Texts(tiny_tokenizer()), None, limits)
        sampling = lambda step: Sampling(num_completions=3, max_new_tokens=4, temperature=1.0, seed=step)  # noqa: E731
        return Drawing(repeat(EXAMPLES), sampler, sampling, sampler)

    return make


def test_every_reply_has_the_version_of_the_weights_that_wrote_it(drawing):
    engine = Engine()
    calls, is_there, is_updated = [], Event(), Event()

    def between():
        calls.append(True)
        # A batch is six plays, and two greedy ones.
        if len(calls) > 8:
            is_there.set()
            assert is_updated.wait(60)

    game = Game(between)
    rollouts = Ahead(drawing(engine, game), 1, 2)
    rollouts.set_version(0)
    first = rollouts.take(0)
    assert is_there.wait(60)
    engine.version = 1
    rollouts.set_version(1)
    is_updated.set()
    second = rollouts.take(1)
    rollouts.close()
    assert main_thread() not in game.threads
    assert {version for rollout in first.rollouts for version in rollout["policy_versions"]} == {0}
    assert largest_mismatch_of_turns(first.rollouts, MODELS[0], 1.0) < 1e-5
    for rollout in second.rollouts:
        replies = [turn for turn in rollout["turns"] if turn["role"] == "assistant"]
        versions = [set(rollout["policy_versions"][turn["start"] : turn["stop"]]) for turn in replies]
        assert versions == [{0}, {0}, {1}]


def tokens_of(batch):
    return [rollout["completion_ids"] for rollout in batch.rollouts]


def test_with_the_same_weights_it_plays_what_is_played_when_needed(drawing):
    ahead, needed = Ahead(drawing(Engine(), Game()), 2, 3), WhenNeeded(drawing(Engine(), Game()))
    batches = [ahead.take(step) for step in range(3)]
    ahead.close()
    wanted = [needed.take(step) for step in range(3)]
    assert [tokens_of(batch) for batch in batches] == [tokens_of(batch) for batch in wanted]
    assert [batch.greedy_rewards for batch in batches] == [batch.greedy_rewards for batch in wanted]


def test_a_checkpoint_keeps_plays_with_their_turns_and_why_greedy_ones_failed(drawing):
    sampled = WhenNeeded(drawing(Engine(), Game())).take(0)
    batch = dataclasses.replace(sampled, greedy_failures=["no board"])
    file = io.BytesIO()
    torch.save([kept(batch)], file)
    file.seek(0)
    [again] = restored([torch.load(file, weights_only=True)], [EXAMPLES], Ranks())
    assert again == batch
    assert {len(rollout["turns"]) for rollout in again.rollouts} == {5}
