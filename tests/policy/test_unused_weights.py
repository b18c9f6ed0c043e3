"""Weights that a model ought to use are never left out silently; what other checkpoints leave behind is."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from plugrad import ModelError
from plugrad.config.tables.model_table import ModelTable
from plugrad.policy.loading import load_model
from plugrad.testing import tiny_tokenizer

SMALL = {
    "vocab_size": 103,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save a small model of a type once."""
    made = {}

    def save(model_type, **fields):
        if model_type not in made:
            folder = tmp_path_factory.mktemp(model_type)
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{**SMALL, **fields}))
            model.save_pretrained(folder)
            tiny_tokenizer().save_pretrained(folder)
            made[model_type] = folder
        return made[model_type]

    return save


@pytest.fixture
def load(saved, tmp_path):
    """Load a saved model with other fields in its configuration, and further weights in its file."""

    def load_it(model_type, changed=None, added=(), as_type=None, **fields):
        folder = saved(model_type, **fields)
        (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
        (tmp_path / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())
        plain = {**AutoConfig.from_pretrained(folder).to_dict(), **(changed or {})}
        saved_type = plain.pop("model_type")
        AutoConfig.for_model(as_type or saved_type, **plain).save_pretrained(tmp_path)
        tensors = {**load_file(folder / "model.safetensors"), **{name: torch.zeros(2, 2) for name in added}}
        save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
        return load_model(ModelTable(name=str(tmp_path)), ["1+1="])

    return load_it


@pytest.mark.parametrize(
    ("model_type", "fields", "key"),
    [
        ("qwen3", {}, "num_hidden_layers"),
        ("gpt2", {"n_layer": 4, "n_embd": 32, "n_head": 2}, "n_layer"),
        ("qwen3_moe", MOE, "num_hidden_layers"),
    ],
)
def test_more_layers_than_the_configuration_asks_for_are_refused(load, model_type, fields, key):
    with pytest.raises(
        ModelError,
        match=rf"hold 4 layers, and config\.json asks for 2, so \d+ weights would .*\.2\..* Set {key} = 4 in config",
    ):
        load(model_type, {"num_hidden_layers": 2, "layer_types": None}, **fields)


@pytest.mark.parametrize(
    ("model_type", "change", "found"),
    [
        ("qwen2", {"as_type": "llama"}, "12 weights of its layers .*q_proj.bias"),
        ("qwen3", {"as_type": "llama"}, "8 weights of its layers .*self_attn.[kq]_norm.weight"),
        ("qwen3", {"added": ["model.norm.bias"]}, r"1 weight of its layers .* model\.norm\.bias\."),
        ("qwen3", {"added": ["lm_head.bias"]}, r"1 weight of its layers .* lm_head\.bias\."),
    ],
)
def test_parts_of_layers_that_would_be_left_out_are_refused(load, model_type, change, found):
    with pytest.raises(ModelError, match=f"{found}.*Check config.json.*left over on purpose"):
        load(model_type, **change)


LEFTOVERS = {
    "frequencies": ["model.layers.0.self_attn.rotary_emb.inv_freq"],
    "a mask called bias": ["model.layers.0.self_attn.bias", "model.layers.3.self_attn.masked_bias"],
    "scales": ["model.layers.0.self_attn.q_proj.weight_scale", "model.layers.0.mlp.up_proj.input_scale"],
    "a vision tower": [
        "vision_tower.layers.0.weight",
        "model.visual.blocks.9.norm.weight",
        "model.vision_model.layers.7.weight",
    ],
    "a projector": ["multi_modal_projector.linear.weight", "multi_modal_projector.linear.bias"],
    "layers of prediction": ["mtp.layers.0.self_attn.q_proj.weight", "mtp.fc.weight", "model.mtp.norm.weight"],
    "a last layer of prediction": ["model.layers.4.eh_proj.weight", "model.layers.4.self_attn.q_proj.weight"],
    "another head": ["score.weight", "v_head.summary.weight", "v_head.summary.bias"],
}


@pytest.mark.parametrize("added", LEFTOVERS.values(), ids=LEFTOVERS)
def test_leftovers_of_other_checkpoints_pass(load, added):
    assert load("qwen3", added=added).model.num_parameters()


def test_a_layer_of_prediction_that_the_configuration_names_passes(load):
    added = ["model.layers.4.self_attn.q_proj.weight"]
    assert load("qwen3", {"num_nextn_predict_layers": 1}, added=added).model.num_parameters()
    with pytest.raises(ModelError, match=r"hold 5 layers, and config\.json asks for 4"):
        load("qwen3", added=added)
