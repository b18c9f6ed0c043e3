"""Rollouts when they are needed and ahead: which weights may have sampled them, and what happens to older ones."""

import dataclasses
import threading
import time
from concurrent.futures import wait
from itertools import repeat

import pytest

from plugrad.errors import EngineError, RunFileError
from plugrad.rollout.engine import Sampling
from plugrad.rollout.texts import Texts
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.trainer.batch.prefetch import ATTEMPTS, Ahead, Drawing, WhenNeeded, texts_for_sampling
from plugrad.trainer.batch.sampler import Sampler
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.record.display import Silent
from plugrad.trainer.samples.samples import samples_of

EXAMPLES = [{"example_id": 0, "prompt": "1+1="}, {"example_id": 1, "prompt": "2+2="}]
WAITS_S = 10.0


class Engine:
    """The transformers engine, with versions as a test wants them: it lags behind in its first `stale_calls` calls."""

    def __init__(self, stale_calls=0, stale_by=1):
        self.inner = TransformersEngine(tiny_model(), tiny_tokenizer(), 8)
        self.stale_calls, self.stale_by = stale_calls, stale_by
        self.version = 0
        self.calls = []
        self.may_generate = threading.Event()
        self.may_generate.set()

    def generate(self, prompts, sampling):
        assert self.may_generate.wait(2 * WAITS_S)
        # Of the weights that it begins with, however long it takes.
        version = self.version
        self.calls.append((len(prompts), sampling.seed, version))
        stale = len(self.calls) <= self.stale_calls
        groups = self.inner.generate(prompts, sampling)
        # Only the last completion of a group comes from the server that lags.
        lag = self.stale_by * stale
        return [[*(_by(c, version) for c in group[:-1]), _by(group[-1], version, lag)] for group in groups]

    def update_weights(self, weights, version):
        self.version = version

    def close(self):
        pass


def _by(completion, version, lag=0):
    # The first token only: an engine may take new weights in the middle of a completion.
    versions = [version - lag] + [version] * (len(completion.ids) - 1)
    return dataclasses.replace(completion, policy_versions=versions)


class Environment:
    """Scores every rollout with 1; the score of what is replaced must be made anew."""

    def score(self, rollouts):
        for rollout in rollouts:
            rollout["reward"] = 1.0


def wait_for_calls(engine, count):
    deadline = time.monotonic() + WAITS_S
    while len(engine.calls) < count and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.fixture
def drawing():
    def make(engine):
        sampler = Sampler(engine, Environment(), Texts(tiny_tokenizer()), None)
        sampling = lambda step: Sampling(num_completions=3, max_new_tokens=4, temperature=1.0, seed=step)  # noqa: E731
        return Drawing(repeat(EXAMPLES), sampler, sampling, None)

    return make


def versions(sampled):
    return [[min(rollout["policy_versions"]) for rollout in group] for group in sampled.groups]


def test_a_batch_is_sampled_when_it_is_needed(drawing):
    engine = Engine()
    rollouts = WhenNeeded(drawing(engine))
    rollouts.set_version(0)
    assert not engine.calls
    assert versions(rollouts.take(0)) == [[0, 0, 0], [0, 0, 0]]
    engine.version = 1
    rollouts.set_version(1)
    assert versions(rollouts.take(1)) == [[1, 1, 1], [1, 1, 1]]


def test_what_older_weights_took_part_in_is_dropped_and_sampled_again(drawing):
    engine = Engine(stale_calls=1)
    engine.version = 5
    rollouts = WhenNeeded(drawing(engine))
    rollouts.set_version(5)
    sampled = rollouts.take(0)
    assert versions(sampled) == [[5, 5, 5], [5, 5, 5]]
    assert sampled.num_dropped == 2
    assert [len(group) for group in sampled.groups] == [3, 3]
    assert all(rollout["reward"] == 1.0 for group in sampled.groups for rollout in group)
    first, again = (seed for _, seed, _ in engine.calls)
    assert first != again, "the same seed draws the same"


def test_an_engine_that_goes_on_lagging_ends_the_run(drawing):
    engine = Engine(stale_calls=99)
    engine.version = 5
    rollouts = WhenNeeded(drawing(engine))
    rollouts.set_version(5)
    with pytest.raises(EngineError, match=r"weights of version 4, .* allows 5 or newer"):
        rollouts.take(0)
    assert len(engine.calls) == 1 + ATTEMPTS


@pytest.mark.parametrize("max_staleness", [1, 2])
def test_no_batch_is_older_than_the_bound(drawing, max_staleness):
    engine, max_steps = Engine(), 6
    rollouts = Ahead(drawing(engine), max_staleness, max_steps)
    rollouts.set_version(0)
    lags = []
    for step in range(max_steps):
        sampled = rollouts.take(step)
        lags.append(step - min(version for group in versions(sampled) for version in group))
        wait_for_calls(engine, min(step + 2, max_steps))
        engine.version = step + 1
        rollouts.set_version(step + 1)
    rollouts.close()
    assert lags[0] == 0
    assert max(lags) <= max_staleness
    assert lags[1] == 1, "the second batch was sampled while the first was trained on"
    assert [seed for _, seed, _ in engine.calls] == list(range(max_steps)), "each once, in order, and none too many"


def test_a_batch_of_the_bound_is_kept_and_one_beyond_it_is_not(drawing):
    engine = Engine(stale_calls=99)
    rollouts = Ahead(drawing(engine), 1, 3)
    engine.version = 1
    rollouts.set_version(0)
    assert versions(rollouts.take(0)) == [[1, 1, 0], [1, 1, 0]]
    rollouts.close()
    behind = Engine(stale_calls=1, stale_by=2)
    behind.version = 2
    late = Ahead(drawing(behind), 1, 9)
    late.set_version(0)
    assert late.take(0).num_dropped == 0, "version 0 is all that batch 0 asks for"
    late.close()


def test_the_next_batch_is_sampled_while_this_one_is_trained_on(drawing):
    engine = Engine()
    rollouts = Ahead(drawing(engine), 1, 3)
    rollouts.set_version(0)
    rollouts.take(0)
    wait_for_calls(engine, 2)
    assert [seed for _, seed, _ in engine.calls] == [0, 1]
    rollouts.close()


def test_an_error_ahead_is_raised_where_the_batch_is_taken(drawing):
    class Broken(Engine):
        def generate(self, prompts, sampling):
            if self.calls:
                raise EngineError("gone")
            return super().generate(prompts, sampling)

    rollouts = Ahead(drawing(Broken()), 1, 3)
    rollouts.set_version(0)
    rollouts.take(0)
    with pytest.raises(EngineError, match="gone"):
        rollouts.take(1)
    rollouts.close()


def test_what_was_sampled_ahead_can_be_kept_and_is_not_sampled_again(drawing):
    engine = Engine()
    rollouts = Ahead(drawing(engine), 2, 9)
    rollouts.set_version(0)
    rollouts.take(0)
    kept = [future.result() for future in rollouts._scheduled]
    assert rollouts.ahead() == kept
    assert len(kept) == 2
    rollouts.close()
    later = Engine()
    later.version = 1
    going_on = Ahead(drawing(later), 2, 9, first_step=1, kept=kept)
    going_on.set_version(1)
    assert [going_on.take(1), going_on.take(2)] == kept
    going_on.take(3)
    going_on.close()
    assert next(seed for _, seed, _ in later.calls) == 3


def test_a_batch_that_is_still_sampled_is_not_kept(drawing):
    engine = Engine()
    rollouts = Ahead(drawing(engine), 2, 9)
    rollouts.set_version(0)
    rollouts.take(0)
    wait(rollouts._scheduled)
    engine.may_generate.clear()
    rollouts.take(1)
    assert len(rollouts.ahead()) == 1
    engine.may_generate.set()
    rollouts.close()


def test_closing_gives_up_what_has_not_begun(drawing):
    engine = Engine()
    rollouts = Ahead(drawing(engine), 3, 9)
    rollouts.set_version(0)
    rollouts.take(0)
    engine.may_generate.clear()
    done = len(engine.calls)
    threading.Timer(0.2, engine.may_generate.set).start()
    rollouts.close()
    assert len(engine.calls) <= done + 1


def test_a_run_that_ends_at_once_waits_for_nothing(drawing):
    engine = Engine()
    rollouts = Ahead(drawing(engine), 2, 9)
    rollouts.set_version(0)
    rollouts.take(0)
    engine.may_generate.clear()
    started = time.monotonic()
    rollouts.close(waits=False)
    rollouts.close()
    assert time.monotonic() - started < WAITS_S
    done = len(engine.calls)
    engine.may_generate.set()
    time.sleep(0.2)
    assert len(engine.calls) <= done + 1, "the batch after the one that was under way is not begun"


@pytest.mark.parametrize("engine", ["transformers", "dataset"])
def test_engines_without_weights_of_their_own_cannot_sample_ahead(run_file, engine):
    with pytest.raises(RunFileError, match=rf'max_staleness = 1 .* "{engine}" has no weights of its own'):
        run_file(rollout={"engine": engine, "max_staleness": 1})


def test_ranks_that_share_an_engine_cannot_sample_ahead(run_file):
    with pytest.raises(RunFileError, match=r"max_staleness > 0 needs vllm\.tensor_parallel_size = 1"):
        run_file(rollout={"engine": "vllm", "max_staleness": 1, "vllm": {"tensor_parallel_size": 2}})


def test_samples_are_taken_while_the_tokenizer_of_the_batch_ahead_is_busy(run_file, drawing, monkeypatch):
    file, texts = run_file(rollout={"engine": "vllm", "max_staleness": 1}), Texts(tiny_tokenizer())
    of_sampling = texts_for_sampling(file, texts)
    engine = Engine()
    rollouts = Ahead(dataclasses.replace(drawing(engine), sampler=Sampler(engine, Environment(), of_sampling, None)), 1, 3)
    rollouts.set_version(0)
    batch = rollouts.take(0)
    is_busy, is_free = threading.Event(), threading.Event()

    def decode(*arguments, **options):
        is_busy.set()
        assert is_free.wait(2 * WAITS_S)
        return "1"

    monkeypatch.setattr(of_sampling.tokenizer, "decode", decode)
    wait_for_calls(engine, 2)
    assert is_busy.wait(WAITS_S), "the next batch is not sampled by this tokenizer"
    taken = []
    samples = dataclasses.replace(samples_of(file, texts, Silent(), Ranks()), receivers=[taken.extend])
    advantages = [[[0.0] * len(rollout["completion_ids"]) for rollout in group] for group in batch.groups]
    samples.of_training(1, dataclasses.replace(batch, advantages=advantages), is_last=False)
    is_free.set()
    rollouts.close()
    texts_of = {texts.visible(rollout["completion_ids"]) for rollout in batch.rollouts}
    assert {sample["completion"] for sample in taken} == texts_of
    assert texts_for_sampling(run_file(), texts) is texts, "on policy there is one thread"


def test_the_environment_scores_one_batch_at_a_time():
    """Evaluation and the batch ahead are scored in two threads."""
    busy, overlaps = threading.Lock(), []

    class Slow:
        def score(self, rollouts):
            if not busy.acquire(blocking=False):
                overlaps.append(1)
                return
            time.sleep(0.05)
            busy.release()

    sampler = Sampler(Engine(), Slow(), Texts(tiny_tokenizer()), None)
    sampling = Sampling(num_completions=1, max_new_tokens=2, temperature=1.0, seed=0)
    threads = [threading.Thread(target=sampler.sample, args=(EXAMPLES, sampling)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not overlaps
