"""QLoRA: an adapter beside a base of 4 bits, with bitsandbytes itself, which also runs on a CPU."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from plugrad import ModelError, RunFileError, train
from plugrad.config.tables.model_table import ModelTable
from plugrad.policy import quantised
from plugrad.policy.loading import load_model

pytest.importorskip("bitsandbytes")
LOSSES = [{"name": "importance_sampling"}, {"name": "kl_to_reference", "weight": 0.1}]
TINY = {"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}


@pytest.fixture
def base(tmp_path):
    """A folder with a tiny model and its tokenizer."""
    loaded = load_model(ModelTable(from_scratch=TINY), ["0123456789+="])
    loaded.model.save_pretrained(tmp_path / "base")
    loaded.tokenizer.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def test_a_run_trains_an_adapter_beside_it_and_goes_on_to_the_bit(base, run, run_file, tmp_path, stopped_runs):
    tables = {
        "model": {"name": base, "quantization": "nf4", "lora": {"r": 4}},
        "loss": LOSSES,
        "optimizer": {"lr": 1e-2},
        "checkpoint": {"every_steps": 1, "keep": 9},
        "samples": {"every_steps": 1},
    }
    result = run(**tables)
    first, *_, last = result.records
    assert first["kl_to_reference/loss"] == pytest.approx(0.0, abs=1e-12)
    assert last["kl_to_reference/loss"] > 0
    assert first["inference_mismatch/parity"] < 1e-3
    adapter = load_file(result.folder / "model" / "adapter_model.safetensors")
    assert len(adapter) == 2 * 7 * 2
    assert {weight.dtype for weight in adapter.values()} == {torch.float32}
    stopped_runs.stop_after(2, result.folder, tmp_path / "stopped")
    train(run_file(**tables, output_dir=str(tmp_path / "stopped")), resume=True)
    stopped_runs.assert_same(tmp_path / "stopped", result.folder)


@torch.no_grad()
def test_the_base_is_that_of_transformers_with_half_a_byte_a_weight(base):
    ours = load_model(ModelTable(name=base, quantization="nf4", lora={}), []).model
    packed = ours.model.layers[0].mlp.down_proj.base_layer.weight
    assert (packed.dtype, packed.numel()) == (torch.uint8, 64 * 128 // 2)
    config = quantised.quantisation_of(ModelTable(name=base, quantization="nf4", lora={}))
    theirs = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, quantization_config=config)
    ids = torch.arange(3, 9).unsqueeze(0)
    assert torch.equal(ours.eval()(input_ids=ids).logits, theirs(input_ids=ids).logits)


REFUSED = {
    "without [model.lora]: weights of 4 bits cannot be trained": {"name": "a"},
    "weights are quantised as they are read. Give a `name`": {"from_scratch": TINY, "lora": {}},
    "Resize and save the model first": {"name": "a", "lora": {}, "resize_embeddings": True},
    "it rounds to four bits": {"name": "a", "lora": {}, "dtype": "float64"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_quantised(run_file, message):
    with pytest.raises(RunFileError) as refused:
        run_file(model={"quantization": "nf4", **REFUSED[message]})
    assert message in str(refused.value)


def test_without_bitsandbytes_it_is_refused_before_the_model_loads(run, base, monkeypatch):
    monkeypatch.setattr(quantised, "PACKAGE", "no_such_package_as_this")
    with pytest.raises(ModelError, match=r"needs bitsandbytes, which is not installed: pip install \"plugrad\[qlora\]\""):
        run(model={"name": base, "quantization": "nf4", "lora": {}})


def test_engines_that_take_whole_weights_are_refused(run_file, base):
    file = run_file(model={"name": base, "quantization": "nf4", "lora": {}}, rollout={"engine": "vllm"})
    with pytest.raises(RunFileError, match=r"those of a quantised base are in 4 bits\. Sample with the engine transformers"):
        quantised.check_quantised(file)
