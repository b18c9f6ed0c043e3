"""The estimate of memory: weights, gradients and optimizer as they are, activations within a factor of two."""

from dataclasses import replace

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from plugrad import RunFile
from plugrad.cli.main import app
from plugrad.config.tables.model_table import ModelTable
from plugrad.host.bound_optimizer import bound_optimizer
from plugrad.host.select import select
from plugrad.policy.loading import load_model
from plugrad.policy.policy import Policy
from plugrad.trainer.memory_estimate import GIB, RunModels, _savings, estimate, tell
from plugrad.trainer.run_models import described_policy, run_models
from plugrad.trainer.update.optimizer import make_optimizer

TINY = {"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 4, "head_dim": 16}
TOKENS = 256
OF_TEACHER = """
import plugrad


@plugrad.loss(needs={"teacher_logprobs"})
def of_teacher(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
    return plugrad.LossOutputs(-inputs.teacher_logprobs)
"""


def made(**tables):
    model = {"from_scratch": TINY, **tables.pop("model", {})}
    file = RunFile(model=model, environment={"name": "arithmetic"}, tokens_per_micro_batch=TOKENS, metrics=[], **tables)
    return file, load_model(file.model, ["0123456789+="]).model


def described(model):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(model.config, dtype=model.dtype)


def models_of(file, policy, **facts):
    return RunModels(policy, bound_optimizer(file.optimizer, []), **facts)


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
    found = estimate(file, models_of(file, described(base)))
    weights, gradients, optimizer, activations = measured(file, model)
    assert (found.weights, found.gradients, found.optimizer) == (weights, gradients, optimizer)
    assert 0.5 < found.activations / activations < 2


def test_what_each_setting_saves():
    file, model = made()
    models = models_of(file, described(model), has_reference=True)
    plain = estimate(file, models)
    assert plain.weights == 2 * plain.gradients

    def with_it(**tables):
        return estimate(made(**tables)[0], models)

    away = with_it(memory={"offload_optimizer": True, "offload_reference": True, "offload_activations": True})
    assert (away.weights, away.optimizer, away.activations) == (plain.gradients, 0.0, 0.0)
    assert with_it(model={"gradient_checkpointing": True}).activations < 0.5 * plain.activations
    assert with_it(model={"lora": {"r": 4}}).weights < 1.2 * plain.gradients


def test_shards_are_of_what_is_trained_and_frozen_models_are_whole():
    file, model = made()
    models = models_of(file, described(model), has_reference=True)
    one, four = estimate(file, models), estimate(file, replace(models, num_shards=4))
    assert (four.gradients, four.optimizer, four.activations) == (one.gradients / 4, one.optimizer / 4, one.activations)
    assert four.weights == one.weights / 8 + one.weights / 2
    # Beside a sharded policy that computes in bfloat16 they are rounded to it.
    rounded = estimate(made(model={"compute_dtype": "bfloat16"})[0], replace(models, num_shards=4))
    assert rounded.weights == one.weights / 8 + one.weights / 4


def test_reference_teachers_and_critic_are_counted_where_something_needs_them(tmp_path):
    for name, width in (("small", 64), ("large", 128)):
        loaded = load_model(ModelTable(from_scratch={**TINY, "hidden_size": width}), ["0123456789+="])
        loaded.model.save_pretrained(tmp_path / name)
        loaded.tokenizer.save_pretrained(tmp_path / name)
    small, large = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("small", "large"))
    (tmp_path / "own.py").write_text(OF_TEACHER)

    def found(*names, **tables):
        table = {"name": str(tmp_path / "small"), **tables.pop("model", {})}
        file = RunFile(
            model=table,
            environment={"name": "arithmetic"},
            loss=[{"name": name} for name in names],
            search_paths=[str(tmp_path)],
            metrics=[],
            **tables,
        )
        selection = select(file)
        policy = described_policy(file.model, list, []).model
        return estimate(file, run_models(file, selection, policy))

    def near(size, wanted):
        return abs(size - wanted) < 0.05 * wanted  # A file has a header, too.

    alone = found("cross_entropy")
    assert near(alone.weights, small)
    its = {"name": str(tmp_path / "large")}
    assert near(found("cross_entropy", "kl_to_reference").weights, 2 * small)
    assert near(found("cross_entropy", "kl_to_reference", model={"reference": its}).weights, small + large)
    assert found("cross_entropy", model={"reference": its, "teacher": its}).weights == alone.weights
    assert near(found("own.py:of_teacher", model={"teacher": {**its, "dtype": "bfloat16"}}).weights, small + large / 2)
    critic = found("cross_entropy", critic=its)
    assert near(critic.weights, small + large)
    assert critic.gradients == critic.weights
    assert critic.activations > 2 * alone.activations


def test_the_line_names_the_settings_with_which_it_would_fit():
    file, model = made()
    models = models_of(file, described(model))
    size = estimate(file, models).total
    line, fits = tell(file, models, 2 * size)
    assert fits
    assert line.startswith("Memory, estimated: weights 0.0, gradients 0.0, optimizer 0.0, activations about 0.0 GiB; ")
    line, fits = tell(file, models, size)
    assert not fits
    assert "It would with model.gradient_checkpointing = true: weights" in line
    line, fits = tell(file, models, size / 100)
    assert not fits
    assert "with no setting: shard it" in line
    assert f"{GIB}" not in line


def test_settings_that_would_be_refused_are_not_proposed():
    file, model = made(optimizer={"name": "Muon"}, rollout={"engine": "vllm"})
    file = file.model_copy(update={"model": file.model.model_copy(update={"name": "a", "from_scratch": None})})
    models = models_of(file, described(model), has_reference=True)
    names = {name for name, _ in _savings(file, models)}
    assert {"memory.offload_optimizer = true", "memory.offload_reference = true", "[model.lora]"} <= names
    assert 'model.quantization = "nf4"' not in names
    file = file.model_copy(update={"rollout": file.rollout.model_copy(update={"engine": "transformers"})})
    assert 'model.quantization = "nf4"' in {name for name, _ in _savings(file, models)}
    sharded = {name for name, _ in _savings(file, replace(models, num_shards=2))}
    assert sharded.isdisjoint({'model.quantization = "nf4"', "memory.offload_optimizer = true"})


def test_a_run_file_is_asked_without_a_gpu(made_folder):
    arguments = ["--set", "max_steps=1"]
    found = CliRunner().invoke(app, ["fit", str(made_folder), "--memory", "24", *arguments])
    assert found.exit_code == 0, found.output
    assert found.stdout.endswith("; the device has 24.\n")
    found = CliRunner().invoke(app, ["fit", str(made_folder), "--memory", "0.01", *arguments])
    assert found.exit_code == 1, found.output
    assert "It may not fit. It would with model.gradient_checkpointing = true" in found.stdout
    found = CliRunner().invoke(app, ["fit", str(made_folder)])
    assert found.stdout.startswith("Memory, estimated: weights 0.0, ")
    assert "device" not in found.stdout


@pytest.fixture
def made_folder(tmp_path):
    fields = ", ".join(f"{key} = {value!r}" for key, value in TINY.items())
    text = f"tokens_per_micro_batch = 1024\nmodel.from_scratch = {{{fields}}}\nenvironment.name = 'arithmetic'\n"
    (tmp_path / "run.toml").write_text(text + "loss = [{name = 'cross_entropy'}]\n")
    return tmp_path / "run.toml"


def test_it_is_silent_on_a_cpu(run, caplog):
    with caplog.at_level("INFO", logger="plugrad"):
        run(max_steps=1)
    assert "Memory, estimated" not in caplog.text
