"""Plays with servers that fail in the middle: a retry loses nothing; without servers, there is one error for all plays."""

import gc
import threading

import pytest
import torch

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import ServersLost
from plugrad.host.environment import BoundEnvironment
from plugrad.rollout.engine import Sampling
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.servers.server_engine import ServerEngine
from plugrad.rollout.texts import Texts
from plugrad.rollout.turns.player import PlayLimits
from plugrad.trainer.batch.playing import Playing

from .conftest import STOP, good_response
from .test_server_engine import MODEL, TOKENIZER, WEIGHTS, VllmRoutes

EXAMPLES = [{"example_id": number, "prompt": f"{number}+1="} for number in range(4)]
NUM, TURNS = 2, 3
NUM_REPLIES = len(EXAMPLES) * NUM * TURNS


class Policy(VllmRoutes):
    """Writes what follows from the prompt's tokens and the seed. `fails` says which requests it fails, by their number."""

    def __init__(self, fails=lambda number: False):
        super().__init__()
        self._fails, self._lock = fails, threading.Lock()
        self.num_asked, self.answered = 0, []

    def on_inference_v1_generate(self, body):
        if not body:
            return super().on_inference_v1_generate(body)
        asked = (tuple(body["token_ids"]), body["sampling_params"]["seed"])
        with self._lock:
            self.num_asked += 1
            if self._fails(self.num_asked):
                return 500, {"error": {"message": "out of memory"}}
            self.answered.append(asked)
        tokens = [5 + hash((asked, place)) % 90 for place in range(2)]
        return 200, good_response(body, label=self.label, tokens=(*tokens, STOP))


class Sums:
    """Three replies in one conversation; it notes what its plays end with."""

    def __init__(self):
        self.ends = []

    async def play(self, example, policy):
        chat = policy.chat(example["prompt"])
        try:
            for turn in range(TURNS):
                await chat.reply()
                chat.add("user", f"+{turn}=")
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        return float(len(chat.messages))


@pytest.fixture
def play(listen, tmp_path, monkeypatch):
    """Play with servers that answer so; return the rollouts."""
    monkeypatch.setattr("plugrad.rollout.servers.client.FIRST_WAIT_S", 0.001)
    engines = []

    def make(*policies, environment=None, **options):
        table = ServerTable(addresses=[listen(policy).address for policy in policies], **options)
        model = EngineModel("org/model", MODEL.config, TOKENIZER, torch.float32, frozenset({STOP}), 64)
        engine = ServerEngine(table, model, folder=tmp_path)
        engines.append(engine)
        engine.update_weights(WEIGHTS, 0)
        limits = PlayLimits(max_new_tokens=3, max_turns=8, longest_row=64, seconds=60.0)
        playing = Playing(engine, BoundEnvironment("sums", environment or Sums()), Texts(TOKENIZER), limits)
        groups = playing.sample(EXAMPLES, Sampling(num_completions=NUM, max_new_tokens=3, temperature=1.0, seed=7))
        return [rollout for group in groups for rollout in group]

    yield make
    for engine in engines:
        engine.close()


def test_a_retry_in_the_middle_of_a_play_loses_nothing(play):
    plain = play(Policy())
    flaky = [Policy(lambda number: number % 3 == 0), Policy(lambda number: number == 4)]
    again = play(*flaky)
    assert sum(each.num_asked for each in flaky) > NUM_REPLIES, "some were asked for again"
    answered = [asked for each in flaky for asked in each.answered]
    assert len(answered) == len(set(answered)) == NUM_REPLIES, "each reply came once"
    for rollout, wanted in zip(again, plain, strict=True):
        assert rollout["metrics"] == {"turns": TURNS, "tokens_given": wanted["metrics"]["tokens_given"], "failed": 0}
        assert rollout["completion_ids"] == wanted["completion_ids"]
        assert rollout["segments"] == wanted["segments"]
        assert rollout["policy_versions"] == [0] * len(rollout["completion_ids"])


def test_without_servers_there_is_one_error_for_all_plays(play, caplog):
    """None of the plays gets it: it could handle it, and the run would go on without an engine."""
    environment, policy = Sums(), Policy(lambda number: number > 10)
    with pytest.raises(
        ServersLost, match=r"failed after 2 attempts: no server.*\n    http://[^ ]*: .*'out of memory'"
    ) as error:
        play(policy, environment=environment, retries=1)
    assert str(error.value).count("out of memory") == 1
    assert environment.ends
    assert set(environment.ends) == {"CancelledError"}
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []
