"""Plays with the real vLLM, in this process and on servers: every sampled token has the trainer's log-prob."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, Event

import pytest
import torch

from plugrad.config.tables.vllm_table import VllmTable
from plugrad.host.environment import BoundEnvironment
from plugrad.rollout.engine import Sampling
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.segments import by_segment
from plugrad.rollout.stops import stop_ids
from plugrad.rollout.texts import Texts
from plugrad.rollout.turns.player import PlayLimits
from plugrad.rollout.vllm.vllm_engine import VllmEngine
from plugrad.testing import tiny_tokenizer
from plugrad.testing.engines.engine_trial import largest_mismatch_of_turns
from plugrad.trainer.batch.playing import Playing

from .conftest import make_model, weights_of
from .test_runs import PLAYS

EXAMPLES = [{"example_id": number, "prompt": f"{number}+" + "1+" * 70} for number in range(3)]
"""So long that vLLM keeps a block of them, which has 128 tokens on a CPU."""
TEMPERATURE, TURNS, NUM = 0.7, 3, 4


def act_nothing(example, turn):
    pass


class Sums:
    """Takes some turns with one conversation, and in the last reply to another one, too."""

    def __init__(self, before_turn=act_nothing):
        self._before_turn = before_turn

    async def play(self, example, policy):
        chat = policy.chat(example["prompt"])
        for turn in range(TURNS):
            await asyncio.to_thread(self._before_turn, example, turn)
            await chat.reply(max_new_tokens=4 + 2 * turn)
            chat.add("user", f"+{turn}=" + "2" * 20)
        await asyncio.gather(chat.reply(), policy.chat("7+7=").reply())
        return 1.0


def play(engine, before_turn=act_nothing, seed=1):
    """Return the rollouts of all examples."""
    limits = PlayLimits(max_new_tokens=12, max_turns=8, longest_row=256, seconds=60.0)
    playing = Playing(engine, BoundEnvironment("sums", Sums(before_turn)), Texts(tiny_tokenizer()), limits)
    sampling = Sampling(num_completions=NUM, max_new_tokens=12, temperature=TEMPERATURE, seed=seed)
    return [rollout for group in playing.sample(EXAMPLES, sampling) for rollout in group]


def tokens_of(rollouts):
    return [rollout["completion_ids"] for rollout in rollouts]


def versions_of(rollouts):
    return {version for rollout in rollouts for version in rollout["policy_versions"]}


def mismatch(rollouts, model):
    return largest_mismatch_of_turns(rollouts, model, TEMPERATURE)


@pytest.fixture(scope="module")
def in_process():
    """An engine with its model, the numbers of tokens that it did not compute again, and when it slept and woke."""
    model, tokenizer = make_model(), tiny_tokenizer()
    known = EngineModel(None, model.config, tokenizer, torch.float32, stop_ids(model, tokenizer), 256)
    engine = VllmEngine(VllmTable(kv_cache_gib=0.25), known, max_sequences=64, sleeps=True)
    engine.update_weights(weights_of(model), version=0)
    cached, moved, sample = [], [], engine._sample

    def noting(requests, sampling):
        outputs = sample(requests, sampling)
        cached.append([output.num_cached_tokens for output in outputs])
        return outputs

    engine._sample = noting
    # On a CPU, vLLM has nothing to give back.
    engine._vllm = replace(engine._vllm, sleeps=True)
    engine._llm.sleep, engine._llm.wake_up = lambda level: moved.append("sleeps"), lambda: moved.append("wakes")
    yield engine, model, cached, moved
    engine.close()


def test_in_process_all_plays_are_generated_together_and_go_on_from_what_was_computed(in_process):
    engine, model, cached, moved = in_process
    rollouts = play(engine)
    assert len(rollouts) == len(EXAMPLES) * NUM
    assert {len(rollout["segments"]) for rollout in rollouts} == {2}
    assert mismatch(rollouts, model) < 1e-5
    assert len(cached) == TURNS + 1
    assert min(map(min, cached[1:TURNS])) == 128, "what a turn goes on with is not computed again"
    assert moved == ["sleeps"], "once for all turns"
    assert tokens_of(play(engine)) == tokens_of(rollouts)
    assert moved == ["sleeps", "wakes", "sleeps"]
    assert tokens_of(play(engine, seed=2)) != tokens_of(rollouts)


def test_in_process_new_weights_wait_for_the_end_of_a_batch_and_nothing_older_is_kept(in_process):
    engine, model, cached, _ = in_process
    changed, updates = make_model(seed=1), []
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as threads:

        def update(example, turn):
            if not updates:
                updates.append(threads.submit(engine.update_weights, weights_of(changed), 1))

        before = play(engine, update)
        updates[0].result(60)
    assert versions_of(before) == {0}
    assert mismatch(before, model) < 1e-5
    cached.clear()
    after = play(engine)
    assert cached[0][0] == 0
    assert versions_of(after) == {1}
    assert mismatch(after, changed) < 1e-5


def of_version(rollout, version):
    """Return a rollout with the tokens of some weights alone."""
    kept = [found == version for found in rollout["policy_versions"]]
    rows = zip(rollout["segments"], by_segment(rollout["segments"], kept), strict=True)
    segments = [{"ids": segment["ids"], "sampled": list(map(bool, row))} for segment, row in rows if any(row)]
    logprobs = [value for value, keeps in zip(rollout["inference_logprobs"], kept, strict=True) if keeps]
    return {**rollout, "segments": segments, "inference_logprobs": logprobs}


def test_on_servers_each_play_goes_on_by_itself_and_takes_new_weights_in_the_middle(servers, open_engine):
    model, changed = make_model(), make_model(seed=1)
    addresses = [server.address for server in servers[:2]]
    engine = open_engine(model, servers[0].folder, addresses=addresses, concurrency=5)
    engine.update_weights(weights_of(model), version=0)
    plain = play(engine)
    assert mismatch(plain, model) < 1e-5
    near_the_end, others_are = Barrier(NUM), Event()

    def first_example_waits(example, turn):
        if (example["example_id"], turn) == (2, TURNS - 1):
            near_the_end.wait(50)
            others_are.set()
        if (example["example_id"], turn) == (0, 1):
            assert others_are.wait(50)

    # In lock-step, nobody would get on. And whoever is answered first, each reply has the seed of its play and place.
    assert tokens_of(play(engine, first_example_waits)) == tokens_of(plain)
    assert tokens_of(play(engine, seed=2)) != tokens_of(plain)
    updated, one_updates = Event(), Barrier(NUM)

    def first_example_updates(example, turn):
        if (example["example_id"], turn) == (0, 1):
            if one_updates.wait(50) == 0:
                engine.update_weights(weights_of(changed), 1)
                updated.set()
            assert updated.wait(50)

    rollouts = play(engine, first_example_updates)
    for rollout in rollouts[:NUM]:
        first = rollout["turns"][0]["stop"]
        assert set(rollout["policy_versions"][:first]) == {0}
        assert set(rollout["policy_versions"][first:]) == {1}
    assert mismatch([of_version(rollout, 0) for rollout in rollouts], model) < 1e-5
    assert mismatch([of_version(rollout, 1) for rollout in rollouts], changed) < 1e-5


def test_a_run_plays_with_servers(servers, run):
    make_model().save_pretrained(servers[0].folder)
    addresses = [server.address for server in servers[:2]]
    rollout = {
        "engine": "vllm-server",
        "prompts_per_step": 4,
        "rollouts_per_example": NUM,
        "max_new_tokens": 6,
        "parity_every_steps": 1,
        "server": {"addresses": addresses, "concurrency": 8},
    }
    # The servers take rows of 512 tokens.
    tables = {"rollout": rollout, "samples": {"num": 16, "every_steps": 1}, "tokens_per_micro_batch": 512}
    result = run(model={"name": servers[0].folder}, environment=PLAYS, **tables)
    assert [record["step"] for record in result.records] == [1, 2, 3]
    for record in result.records:
        assert (record["environment/turns"], record["environment/failed"], record["staleness/max"]) == (2, 0, 0)
        assert record["inference_mismatch/parity_max"] < 1e-5
        assert abs(record["inference_mismatch/max_ratio"] - 1) < 1e-4
    samples = [json.loads(line) for line in (result.folder / "samples.jsonl").read_text().splitlines()]
    assert [sum(sample["step"] == step for sample in samples) for step in (1, 2, 3)] == [16] * 3, "nothing is lost"
    assert {len(sample["turns"]) for sample in samples} == {3}
