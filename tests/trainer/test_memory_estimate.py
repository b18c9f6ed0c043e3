"""The estimate of memory: weights, gradients and optimizer as they are, activations within a factor of two."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM

from plugrad import RunFile
from plugrad.policy.loading import load_model
from plugrad.policy.policy import Policy
from plugrad.trainer.memory_estimate import GIB, estimate, tell
from plugrad.trainer.update.optimizer import make_optimizer

TINY = {"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 4, "head_dim": 16}
TOKENS = 256


def made(**tables):
    model = {"from_scratch": TINY, **tables.pop("model", {})}
    file = RunFile(model=model, environment={"name": "arithmetic"}, tokens_per_micro_batch=TOKENS, metrics=[], **tables)
    return file, load_model(file.model, ["0123456789+="]).model


def described(model):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(model.config, dtype=model.dtype)


def held(tensors):
    return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())


def measured(file, model):
    """Run a pass and an update; return the bytes of weights, gradients, optimizer and what the backward pass needs."""
    policy, seen = Policy(model, 1.0), {}
    optimizer = make_optimizer(policy, file)
    own = {parameter.untyped_storage().data_ptr() for parameter in policy.parameters()}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(3, 13, (4, TOKENS // 4))
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = policy.train()(ids, torch.ones_like(ids).bool(), torch.ones_like(ids).bool()).logprobs.sum()
    activations = sum(tensor.untyped_storage().nbytes() for tensor in seen.values())
    loss.backward()
    gradients = [p.grad for p in policy.parameters() if p.grad is not None]
    sizes = held(policy.parameters()), held(gradients)
    optimizer.step()
    kept = [v for its in optimizer.state.values() for v in its.values() if isinstance(v, torch.Tensor) and v.dim()]
    return *sizes, held(kept), activations


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"model": {"dtype": "bfloat16"}},
        {"model": {"dtype": "bfloat16"}, "optimizer": {"master_weights": True}},
        {"optimizer": {"name": "SGD", "kwargs": {"momentum": 0.9}}},
        {"model": {"lora": {"r": 4}}},
        {"model": {"lora": {}, "dtype": "bfloat16"}},
    ],
)
def test_it_is_what_a_run_takes(tables):
    file, model = made(**tables)
    base = load_model(file.model.model_copy(update={"lora": None}), ["0123456789+="]).model
    found = estimate(file, described(base), has_reference=False)
    weights, gradients, optimizer, activations = measured(file, model)
    assert (found.weights, found.gradients, found.optimizer) == (weights, gradients, optimizer)
    assert 0.5 < found.activations / activations < 2


def test_what_each_setting_saves():
    file, model = made()
    meta = described(model)
    plain = estimate(file, meta, has_reference=True)
    assert plain.weights == 2 * plain.gradients

    def with_it(**tables):
        return estimate(made(**tables)[0], meta, has_reference=True, num_shards=tables.pop("num_shards", 1))

    away = with_it(memory={"offload_optimizer": True, "offload_reference": True, "offload_activations": True})
    assert (away.weights, away.optimizer, away.activations) == (plain.gradients, 0.0, 0.0)
    assert with_it(model={"gradient_checkpointing": True}).activations < 0.5 * plain.activations
    sharded = estimate(file, meta, has_reference=True, num_shards=4)
    assert sharded.total - sharded.activations == (plain.total - plain.activations) / 4


def test_the_line_names_the_settings_with_which_it_would_fit():
    file, model = made()
    meta = described(model)
    size = estimate(file, meta, has_reference=False).total
    fits = tell(file, meta, 2 * size, has_reference=False)
    assert fits.startswith("Memory, estimated: weights 0.0, gradients 0.0, optimizer 0.0, activations about 0.0 GiB; ")
    assert fits.endswith("the device has 0.")
    tight = tell(file, meta, size, has_reference=False)
    assert "It would with model.gradient_checkpointing = true: weights" in tight
    assert "with no setting: shard it" in tell(file, meta, size / 100, has_reference=False)
    assert f"{GIB}" not in tight


def test_it_is_silent_on_a_cpu(run, caplog):
    with caplog.at_level("INFO", logger="plugrad"):
        run(max_steps=1)
    assert "Memory, estimated" not in caplog.text
