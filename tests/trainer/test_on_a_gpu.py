"""Whole runs on a GPU, in bfloat16, with engine `transformers`: all weights, an adapter, compiled layers."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

TINY = {"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.mark.parametrize("options", [{}, {"lora": {"r": 4}}, {"compile": True}], ids=["all weights", "lora", "compiled"])
def test_a_run_in_bfloat16_trains_and_samples_as_it_scores(run, options):
    result = run(
        max_steps=4,
        model={"from_scratch": TINY, "dtype": "bfloat16", **options},
        rollout={"engine": "transformers", "prompts_per_step": 4, "rollouts_per_example": 8, "max_new_tokens": 8},
        optimizer={"lr": 1e-2},
    )
    lines = [json.loads(line) for line in (result.model.parent / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 4
    assert all(math.isfinite(step["loss"]) and step["grad_norm"] > 0 for step in steps)
    assert all(step["inference_mismatch/kl"] < 1e-2 for step in steps)
    files = list(result.model.rglob("*.safetensors"))
    assert files
    assert all(weight.isfinite().all() for file in files for weight in load_file(file).values())
    assert not any("_orig_mod" in name for file in files for name in load_file(file))
