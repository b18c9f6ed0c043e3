"""Whole runs with vLLM in the training process: one rank and two, parity, and rollouts sampled ahead."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from plugrad import RunFile, train
from plugrad.errors import TrainingError
from plugrad.rollout.vllm import vllm_engine
from plugrad.rollout.vllm.vllm_engine import VllmEngine
from plugrad.trainer.checkpoints.checkpoint_folder import folder_of

MODEL = {"model_type": "qwen3", "hidden_size": 64, "head_dim": 32, "num_hidden_layers": 2}
ROLLOUT = {
    "engine": "vllm",
    "prompts_per_step": 4,
    "rollouts_per_example": 4,
    "max_new_tokens": 6,
    "parity_every_steps": 1,
    "vllm": {"kv_cache_gib": 0.25},
}
PLAYS = {"name": f"{Path(__file__).parent / 'played_sums.py'}:PlayedSums"}


@pytest.fixture
def vllm_run(run):
    """Train with vLLM. Takes changes of the rollout table, and other tables."""

    def train_it(rollout=None, tied=True, **tables):
        model = {"from_scratch": {**MODEL, "tie_word_embeddings": tied}}
        return run(model=model, rollout={**ROLLOUT, **(rollout or {})}, **tables)

    return train_it


@pytest.mark.parametrize("tied", [True, False])
def test_engine_and_trainer_agree_through_a_run(vllm_run, tied):
    result = vllm_run(tied=tied, max_steps=3)
    assert [record["inference_mismatch/parity_max"] < 1e-5 for record in result.records] == [True] * 3
    assert all(abs(record["inference_mismatch/max_ratio"] - 1) < 1e-4 for record in result.records)
    assert all(record["staleness/max"] == 0 for record in result.records)


def test_a_run_of_plays_trains_on_what_was_sampled_and_can_be_repeated(vllm_run):
    """That a run of single replies can be repeated, the next test says, too."""
    played = {"max_steps": 3, "environment": PLAYS, "samples": {"num": 16}}
    result = vllm_run(**played)
    first, samples = result.records, (result.folder / "samples.jsonl").read_text()
    assert [record["step"] for record in first] == [1, 2, 3]
    assert [(record["environment/turns"], record["environment/failed"]) for record in first] == [(2, 0)] * 3
    assert all(record["inference_mismatch/parity_max"] < 1e-5 for record in first)
    assert all(abs(record["inference_mismatch/max_ratio"] - 1) < 1e-4 for record in first)
    assert all(record["staleness/max"] == 0 for record in first)
    result = vllm_run(**played)
    assert (result.folder / "samples.jsonl").read_text() == samples
    timed = {"seconds", "rollouts_s", "tokens_per_s", "memory_gib"}
    for one, two in zip(first, result.records, strict=True):
        same = {name for name in one if one[name] == two[name] or math.isnan(one[name])}
        assert one.keys() - same <= timed


def test_a_run_that_goes_on_ends_as_one_that_never_stopped(vllm_run, stopped_runs, tmp_path):
    asked = {"max_steps": 4, "checkpoint": {"every_steps": 2}, "evaluation": {"every_steps": 2, "num_examples": 8}}
    whole = vllm_run(**asked).folder
    stopped_runs.stop_after(2, whole, tmp_path / "stopped")
    train(RunFile.load(tmp_path / "stopped" / "run.toml", [f"output_dir='{tmp_path / 'stopped'}'"]), resume=True)
    stopped_runs.assert_same(tmp_path / "stopped", whole)


def test_a_run_that_samples_ahead_goes_on_with_what_was_sampled(vllm_run, stopped_runs, tmp_path):
    asked = {"max_steps": 6, "checkpoint": {"every_steps": 3}}
    whole = vllm_run({"max_staleness": 2}, **asked).folder
    stopped_runs.stop_after(3, whole, tmp_path / "stopped")
    own = torch.load(folder_of(whole, 3) / "rank_00000.pt", weights_only=True)
    # Whether the thread was that fast is not certain; what it has sampled is trained on.
    assert len(own["ahead"]) <= 2
    file = RunFile.load(tmp_path / "stopped" / "run.toml", [f"output_dir='{tmp_path / 'stopped'}'"])
    result = train(file, resume=True)
    assert [record["step"] for record in result.records] == [1, 2, 3, 4, 5, 6]
    for place, batch in enumerate(own["ahead"]):
        sampled = [rollout["reward"] for group in batch["groups"] for rollout in group]
        assert result.records[3 + place]["reward"] == pytest.approx(sum(sampled) / len(sampled))
    assert all(record["staleness/max"] <= 2 for record in result.records)


def test_weights_of_which_a_tied_head_is_left_out_end_the_run(vllm_run, monkeypatch):
    class LeavesTheHeadOut(VllmEngine):
        def update_weights(self, weights, version):
            some = ((name, weight) for name, weight in weights if version == 0 or name != "lm_head.weight")
            super().update_weights(some, version)

    monkeypatch.setattr(vllm_engine, "VllmEngine", LeavesTheHeadOut)
    with pytest.raises(TrainingError, match=r"after step 1, .* rollout\.parity_bound is 0\.001"):
        vllm_run()


@pytest.mark.parametrize(("max_staleness", "what"), [(1, {"environment": PLAYS}), (2, {})])
def test_batches_that_are_sampled_ahead_are_stale_by_as_much_and_no_more(vllm_run, max_staleness, what):
    result = vllm_run({"max_staleness": max_staleness}, max_steps=6, optimizer={"lr": 1e-2}, **what)
    assert {record.get("environment/turns") for record in result.records} == ({2} if what else {None})
    staleness = [record["staleness/max"] for record in result.records]
    assert staleness[0] == 0
    assert 0 < max(staleness) <= max_staleness
    # The log-probs are those of the policy that sampled, and not of the one that learns.
    stale = [record for record in result.records if record["staleness/max"]]
    assert all(abs(record["inference_mismatch/max_ratio"] - 1) > 1e-4 for record in stale)
    assert all(record["inference_mismatch/parity_max"] < 1e-5 for record in result.records)


def test_evaluation_and_a_greedy_baseline_sample_with_it_too(vllm_run):
    result = vllm_run({"max_staleness": 1}, evaluation={"every_steps": 1, "num_examples": 8}, max_steps=2)
    assert [record["step"] for record in result.records if "eval/reward" in record] == [0, 1, 2]


@pytest.mark.parametrize("tensor_parallel_size", [1, 2])
def test_two_ranks(train_on_two_ranks, tensor_parallel_size):
    """With an engine each or a shared one, it is the same run, since each prompt has its own seeds."""
    table = {**ROLLOUT, "vllm": {"kv_cache_gib": 0.25, "tensor_parallel_size": tensor_parallel_size}}
    # Of a single held-out example the first rank has no share, but it must still call a shared engine.
    evaluation = {"every_steps": 2, "num_examples": 1}
    shared = shared_memory()
    errors, (before, *records) = train_on_two_ranks(
        model={"from_scratch": MODEL}, rollout=table, max_steps=2, evaluation=evaluation
    )
    assert "Traceback" not in errors
    assert shared_memory() <= shared, "its names would keep the next run from starting"
    assert all(record["inference_mismatch/parity_max"] < 1e-5 for record in records)
    assert records[0]["num_tokens"] > 16
    assert "eval/reward" in before


def shared_memory():
    """Return the names of the memory that vLLM's ranks share on a CPU."""
    return {name for name in os.listdir("/dev/shm") if "cpushm" in name}


def test_a_sharded_policy_is_handed_over_a_layer_at_a_time(tmp_path):
    """Each of two ranks holds half of every weight, as with FSDP2, and has its own engine."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    worker = Path(__file__).parent / "sharded_worker.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*torchrun, str(worker), str(tmp_path / "found.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for of_rank in json.loads((tmp_path / "found.json").read_text()):
        for before, after, held_at_once in of_rank.values():
            assert max(before, after) < 1e-5
            assert held_at_once < 0.2, "of all weights"
