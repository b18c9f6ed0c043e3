"""The policy in training computes what the policy that samples computes, whatever its training mode would do."""

import logging

import pytest
import torch
from torch import nn

from plugrad.policy.policy import Policy
from plugrad.testing import tiny_model

IDS = torch.arange(3, 43).view(2, 20)
ALL = torch.ones_like(IDS, dtype=torch.bool)
MOE = {"num_experts_per_tok": 2}


def with_dropout_inside():
    model = tiny_model()
    model.model.norm = nn.Sequential(model.model.norm, nn.Dropout(0.3))
    return model


def with_attention_dropout():
    model = tiny_model()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    return model


NOISY = {
    "dropout": (with_dropout_inside, {"Dropout"}),
    "attention dropout": (with_attention_dropout, {"Qwen3Attention"}),
    "router noise": (
        lambda: tiny_model(model_type="mixtral", num_local_experts=4, router_jitter_noise=0.1, **MOE),
        {"MixtralSparseMoeBlock"},
    ),
    "routing that is drawn": (
        lambda: tiny_model(model_type="phimoe", num_local_experts=4, initializer_range=0.3, **MOE),
        {"PhimoeSparseMoeBlock", "PhimoeTopKRouter"},
    ),
}


def scores(policy):
    with torch.no_grad():
        return policy(IDS, ALL, ALL)[0]


@pytest.mark.parametrize("kind", NOISY)
def test_what_is_noisy_in_training_mode_stays_in_evaluation_mode(kind):
    make, classes = NOISY[kind]
    model = make()
    policy = Policy(model, 1.0).train()
    assert {type(model.get_submodule(name)).__name__ for name in policy.noisy} & classes
    assert torch.equal(scores(policy), scores(policy))
    assert torch.equal(scores(policy), scores(policy.eval()))


def test_the_same_noise_without_the_policy_would_show():
    model = with_dropout_inside().train()
    assert not torch.equal(model(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("model_type", ["qwen3", "gpt2", "mixtral"])
def test_a_model_without_noise_trains_in_training_mode(model_type):
    policy = Policy(tiny_model(model_type=model_type), 1.0).train()
    assert not policy.noisy
    assert all(module.training for module in policy.modules())


def test_layers_around_what_is_noisy_still_checkpoint():
    model = NOISY["routing that is drawn"][0]()
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)({"use_reentrant": False})
    policy = Policy(model, 1.0).train()
    assert all(layer.training and layer.gradient_checkpointing for layer in model.model.layers)
    assert policy.noisy
    assert not any(model.get_submodule(name).training for name in policy.noisy)
    policy(IDS, ALL, ALL)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in model.model.layers[0].self_attn.parameters())


def test_layers_that_are_noisy_themselves_are_named_where_checkpointing_needs_them(caplog):
    model = tiny_model()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for layer in model.model.layers:
        layer.forward = dropping(layer)
    with caplog.at_level(logging.WARNING, "plugrad"):
        policy = Policy(model, 1.0).train()
    assert "Gradient checkpointing saves no memory in the model's Qwen3DecoderLayer" in caplog.text
    assert torch.equal(scores(policy), scores(policy))


def dropping(layer):
    forward = layer.forward
    return lambda *args, **kwargs: nn.functional.dropout(forward(*args, **kwargs), 0.2, training=layer.training)


def test_the_trial_changes_no_buffer():
    model = tiny_model()
    model.model.norm = nn.Sequential(model.model.norm, Centred())
    before = model.model.norm[1].mean.clone()
    policy = Policy(model, 1.0).train()
    assert torch.equal(model.model.norm[1].mean, before)
    assert not model.model.norm[1].training
    assert torch.equal(scores(policy), scores(policy))


class Centred(nn.Module):
    """Statistics over a batch, as a batch norm has them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, hidden):
        if self.training:
            self.mean.lerp_(hidden.mean().reshape(1), 0.5)
        return hidden - self.mean
