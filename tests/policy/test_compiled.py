"""Compiled layers score as they do uncompiled, in one graph for all sizes, and leave the model's weights and names alone."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from plugrad.errors import ModelError
from plugrad.policy import compiled
from plugrad.policy.policy import Policy


def tiny_model(device="cpu", dtype=torch.float32):
    config = AutoConfig.for_model(
        "qwen3",
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=50,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).to(device, dtype)


def assert_scores_the_same(device, tolerance):
    from torch._dynamo.utils import counters

    counters.clear()
    model = tiny_model(device)
    names = list(model.state_dict())
    other = copy.deepcopy(model)
    policies = [Policy(model, 0.7, compiled=True).train(), Policy(other, 0.7).train()]
    assert [policy.is_compiled for policy in policies] == [True, False]
    assert list(policies[0].state_dict()) == list(policies[1].state_dict())
    for rows, tokens in ((2, 7), (3, 12), (4, 9)):
        ids = torch.randint(50, (rows, tokens), device=device)
        mask = torch.arange(tokens, device=device) < torch.randint(3, tokens + 1, (rows, 1), device=device)
        counted = mask & (torch.arange(tokens, device=device) > 0)
        found, expected = (policy(ids, mask, counted).logprobs for policy in policies)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        found.sum().backward()
        expected.sum().backward()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=10 * tolerance, atol=10 * tolerance)
    assert list(model.state_dict()) == names
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.slow
def test_scores_and_gradients_are_the_same_at_any_size_in_one_graph(monkeypatch):
    # What is captured is the same; to generate C++ takes a minute.
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    assert_scores_the_same("cpu", 1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_scores_and_gradients_are_the_same_at_any_size_in_one_graph():
    assert_scores_the_same("cuda", 1e-4)


def test_a_model_that_runs_as_a_whole_is_refused():
    with pytest.raises(ModelError, match=r"model.compile is true, but Linear turns .* Set it to false"):
        compiled.compiled_layers(nn.Linear(1, 1), None)
