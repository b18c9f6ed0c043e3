"""An adapter that is trained, and the real vLLM: it gets whole weights, with the adapter merged one matrix at a time."""

import json
from contextlib import closing

import pytest
import torch

from plugrad.config.tables.lora_table import LoraTable
from plugrad.policy.adapter_layers import adapter_tensors
from plugrad.policy.lora import add_adapter
from plugrad.rollout.engine import Sampling
from plugrad.testing.engines.engine_trial import largest_mismatch
from plugrad.testing.models import tiny_tokenizer
from plugrad.trainer.update.policy_weights import PolicyWeights

from .conftest import make_model, prompts_of
from .test_in_process import vllm_engine
from .test_runs import ROLLOUT

SAMPLING = Sampling(num_completions=3, max_new_tokens=16, temperature=0.7, seed=1)
TOLERANCE = 1e-5


def adapted(**keys):
    """Return a model with an adapter."""
    model = make_model()
    torch.manual_seed(0)
    add_adapter(model, LoraTable(r=4, **keys), "the/base")
    return model.eval()


@torch.no_grad()
def update(model, seed):
    """Move the adapter alone, as an update does."""
    draws = torch.Generator().manual_seed(seed)
    for weight in adapter_tensors(model).values():
        weight.add_(torch.randn(weight.shape, generator=draws) * 0.2)


def assert_follows(engine, model):
    """What the engine samples is the policy's before updates, after one, and after another."""
    prompts = prompts_of(4)
    stale = None
    for version in range(3):
        if version:
            update(model, version)
        if stale is not None:
            assert largest_mismatch(prompts, stale, model, SAMPLING.temperature) > 1e-2
        engine.update_weights(PolicyWeights(model), version)
        stale = engine.generate(prompts, SAMPLING)
        assert largest_mismatch(prompts, stale, model, SAMPLING.temperature) < TOLERANCE


@pytest.mark.parametrize("keys", [{}, {"dora": True, "rslora": True}])
def test_the_engine_in_process_samples_from_the_policy_with_its_adapter(keys):
    model = adapted(**keys)
    with closing(vllm_engine(model, tiny_tokenizer())) as engine:
        assert_follows(engine, model)


def test_a_server_samples_from_the_policy_with_its_adapter(servers, open_engine):
    model = adapted()
    assert_follows(open_engine(model, servers[0].folder, addresses=[servers[0].address]), model)


def test_a_run_agrees_with_its_engine_after_every_update(run):
    result = run(
        model={"from_scratch": {"model_type": "qwen3", "hidden_size": 64, "head_dim": 32}, "lora": {"r": 4}},
        rollout=ROLLOUT,
        loss=[{"name": "importance_sampling"}, {"name": "kl_to_reference", "weight": 0.1}],
        optimizer={"lr": 5e-2},
        max_steps=3,
    )
    assert [record["inference_mismatch/parity_max"] < TOLERANCE for record in result.records] == [True] * 3
    assert result.records[2]["kl_to_reference/kl"] > 1e-6, "it has moved"
    assert json.loads((result.model / "adapter_config.json").read_text())["r"] == 4
