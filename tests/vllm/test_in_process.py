"""The `vllm` engine, with the real vLLM in this process."""

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from plugrad.config.tables.vllm_table import VllmTable
from plugrad.errors import EngineError
from plugrad.rollout.engine import Sampling
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.prompts import tokenize_prompts
from plugrad.rollout.stops import stop_ids
from plugrad.rollout.vllm.vllm_engine import VllmEngine
from plugrad.testing import check_engine, tiny_model, tiny_tokenizer
from plugrad.testing.engines.engine_trial import EXAMPLES, largest_mismatch
from plugrad.trainer.engines import engine_record

SAMPLING = Sampling(num_completions=3, max_new_tokens=24, temperature=0.7, seed=1)
TABLE = VllmTable(kv_cache_gib=0.25)


def model_of(tied, **fields):
    # On a CPU, vLLM's attention does not support heads of 16.
    return tiny_model(head_dim=32, tie_word_embeddings=tied, **fields)


def vllm_engine(model, tokenizer, table=TABLE):
    known = EngineModel(None, model.config, tokenizer, model.dtype, stop_ids(model, tokenizer), 256)
    return VllmEngine(table, known, max_sequences=64, sleeps=True)


def change(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))


def weights_of(model):
    return [(name, weight.detach()) for name, weight in model.state_dict(keep_vars=True).items()]


def test_it_keeps_the_promises_of_an_engine():
    check_engine(vllm_engine, model_of(tied=False), tiny_tokenizer())


@pytest.fixture(params=["tied", "untied", "llama"])
def engine_and_model(request):
    model = model_of(request.param == "tied", model_type="llama" if request.param == "llama" else "qwen3")
    engine = vllm_engine(model, tiny_tokenizer())
    yield engine, model
    engine.close()


def test_its_log_probs_are_the_trainers_before_and_after_an_update(engine_and_model):
    engine, model = engine_and_model
    prompts = tokenize_prompts(EXAMPLES, tiny_tokenizer(), room=None)
    engine.update_weights(weights_of(model), version=0)
    before = engine.generate(prompts, SAMPLING)
    assert largest_mismatch(prompts, before, model, SAMPLING.temperature) < 1e-5
    change(model)
    assert largest_mismatch(prompts, before, model, SAMPLING.temperature) > 1e-2
    engine.update_weights(weights_of(model), version=1)
    after = engine.generate(prompts, SAMPLING)
    assert largest_mismatch(prompts, after, model, SAMPLING.temperature) < 1e-5
    assert {version for group in after for completion in group for version in completion.policy_versions} == {1}
    alike = engine.generate([prompts[0]] * 3, SAMPLING)
    assert len({tuple(completion.ids) for group in alike for completion in group}) == 9, "drawn independently"


def test_a_head_that_is_left_out_shows_in_the_log_probs():
    """This is what parity catches: without the tied head, the model is neither the old nor the new one."""
    model = model_of(tied=True)
    engine = vllm_engine(model, tiny_tokenizer())
    prompts = tokenize_prompts(EXAMPLES, tiny_tokenizer(), room=None)
    try:
        engine.update_weights(weights_of(model), version=0)
        change(model)
        engine.update_weights([(n, w) for n, w in weights_of(model) if n != "lm_head.weight"], version=1)
        without = largest_mismatch(prompts, engine.generate(prompts, SAMPLING), model, SAMPLING.temperature)
        engine.update_weights(weights_of(model), version=2)
        with_it = largest_mismatch(prompts, engine.generate(prompts, SAMPLING), model, SAMPLING.temperature)
    finally:
        engine.close()
    assert without > 0.1
    assert with_it < 1e-5


def test_more_is_asked_than_one_pass_reads():
    """What does not fit into a pass waits for the next: on a CPU, vLLM crashes on a prompt that it prefills in chunks."""
    model, tokenizer = model_of(tied=True), tiny_tokenizer()
    engine = vllm_engine(model, tokenizer, VllmTable(kv_cache_gib=0.25, kwargs={"max_num_batched_tokens": 256}))
    engine.update_weights(weights_of(model), version=0)
    prompts = tokenize_prompts([{"example_id": i, "prompt": f"{i:060d}+1="} for i in range(40)], tokenizer, room=None)
    groups = engine.generate(prompts, SAMPLING)
    engine.close()
    assert largest_mismatch(prompts, groups, model, SAMPLING.temperature) < 1e-5


def test_the_process_stays_as_it_was():
    """The process belongs to the trainer: its random state, its environment, its threads."""
    set_num_threads, environment = torch.set_num_threads, dict(os.environ)
    state = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    model = model_of(tied=True)
    engine = vllm_engine(model, tiny_tokenizer())
    engine.update_weights(weights_of(model), version=0)
    engine.generate(tokenize_prompts(EXAMPLES, tiny_tokenizer(), room=None), SAMPLING)
    engine.close()
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert np.random.get_state()[1].tolist() == state[2]
    assert torch.set_num_threads is set_num_threads
    changed = {name for name in environment.keys() | os.environ.keys() if environment.get(name) != os.environ.get(name)}
    assert not {name for name in changed if name in ("VLLM_PLUGINS", "VLLM_ENABLE_V1_MULTIPROCESSING", "OMP_NUM_THREADS")}
    assert not torch.distributed.is_initialized()


def test_weights_in_double_precision_are_refused():
    with pytest.raises(EngineError, match=r"weights are float64, which vLLM does not support: set model\.dtype"):
        vllm_engine(model_of(tied=True, dtype="float64"), tiny_tokenizer())


def test_an_option_that_vllm_does_not_know_is_its_error():
    with pytest.raises(EngineError, match=r"failed to start with this model and \[rollout\.vllm\]: .*no_such_option"):
        vllm_engine(model_of(tied=True), tiny_tokenizer(), VllmTable(kwargs={"no_such_option": 1}))


def test_a_cache_that_is_too_small_is_its_error():
    with pytest.raises(EngineError, match=r"No available memory for the cache blocks"):
        vllm_engine(model_of(tied=True), tiny_tokenizer(), VllmTable(kv_cache_gib=1e-5))


def test_closing_cancels_the_batch_of_another_thread():
    model = model_of(tied=True)
    engine = vllm_engine(model, tiny_tokenizer())
    engine.update_weights(weights_of(model), version=0)
    prompts = tokenize_prompts(EXAMPLES, tiny_tokenizer(), room=None)
    # Too long to finish while this test waits.
    long = Sampling(num_completions=64, max_new_tokens=240, temperature=1.0, seed=1)
    engine._stops = frozenset()
    # As in the trainer's own thread: each has its number of OpenMP threads, and vLLM on a CPU needs the one it started with.
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as threads:
        batch = threads.submit(engine.generate, prompts, long)
        while not engine._lock.locked():
            time.sleep(0.01)
        time.sleep(0.3)
        assert not batch.done()
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            batch.result(0)
    with pytest.raises(EngineError, match="closed"):
        engine.generate(prompts, SAMPLING)


STRAY = """
from pathlib import Path
def register():
    Path({file!r}).write_text("ran")
"""
OPENS_AN_ENGINE = """
import sys
sys.path.insert(0, {here!r})
from test_in_process import VllmTable, model_of, tiny_tokenizer, vllm_engine
vllm_engine(model_of(tied=True), tiny_tokenizer(), VllmTable(plugins={plugins!r}, kv_cache_gib=0.25)).close()
"""


@pytest.mark.parametrize("named", [False, True])
def test_vllm_plugins_of_other_packages_run_only_where_they_are_named(tmp_path, named):
    marker = tmp_path / "ran"
    (tmp_path / "stray.py").write_text(STRAY.format(file=str(marker)))
    info = tmp_path / "stray-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stray\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vllm.general_plugins]\nstray = stray:register\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    code = OPENS_AN_ENGINE.format(here=str(Path(__file__).parent), plugins=["stray"] if named else [])
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert marker.exists() is named


def test_which_plugins_may_run_is_recorded(run_file):
    rollout = {"engine": "vllm", "vllm": {"plugins": ["stray"]}}
    assert engine_record(run_file(rollout=rollout)) == {"name": "vllm", "VLLM_PLUGINS": ["stray"]}


def test_a_failure_while_it_samples_is_its_error():
    model = model_of(tied=True)
    too_short = TABLE.model_copy(update={"kwargs": {"max_model_len": 4}})
    prompts = tokenize_prompts(EXAMPLES, tiny_tokenizer(), room=None)
    with closing(vllm_engine(model, tiny_tokenizer(), too_short)) as engine:
        engine.update_weights(weights_of(model), version=0)
        with pytest.raises(EngineError, match=r"failed to complete prompts: .*maximum (context|model) length"):
            engine.generate(prompts, SAMPLING)
