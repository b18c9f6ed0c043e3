"""A model type alone makes a small model that runs, or an error that says which sizes to give."""

import pytest
import torch

from plugrad import ModelError
from plugrad.config.tables.model_table import ModelTable
from plugrad.policy.from_scratch import with_small_defaults
from plugrad.policy.loading import load_model
from plugrad.policy.policy import Policy

SMALL_ALONE = [
    "axk1",
    "codegen",
    "cwm",
    "deepseek_v2",
    "deepseek_v3",
    "dots1",
    "falcon",
    "gemma3n_text",
    "gemma4_text",
    "gemma4_unified_text",
    "gptj",
    "lfm2_moe",
    "mamba2",
    "modernbert-decoder",
    "zamba2",
]


def from_scratch(**fields):
    return ModelTable.model_validate({"from_scratch": fields})


@pytest.mark.parametrize("model_type", SMALL_ALONE)
def test_a_model_type_alone_is_a_small_model_that_learns(model_type):
    model = load_model(from_scratch(model_type=model_type), ["0123456789+="]).model
    ids = torch.arange(3, 11).unsqueeze(0)
    logprobs = Policy(model, 1.0)(ids, torch.ones_like(ids), torch.ones_like(ids).bool()).logprobs
    logprobs.sum().backward()
    assert 200_000 < sum(parameter.numel() for parameter in model.parameters()) < 1_500_000
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("model_type", ["deepseek_v3", "gemma4_text", "lfm2_moe", "zamba2", "qwen3"])
def test_the_resolved_fields_make_the_same_model_again(model_type):
    resolved = with_small_defaults({"model_type": model_type})
    assert with_small_defaults(resolved) == resolved
    once, again = (load_model(from_scratch(**fields), ["ab"]).model for fields in ({"model_type": model_type}, resolved))
    assert once.config.to_dict() == again.config.to_dict()


def test_layers_alternate_for_any_number_of_them():
    fields = with_small_defaults({"model_type": "lfm2_moe", "num_hidden_layers": 5})
    assert fields["layer_types"] == ["conv", "full_attention", "conv", "full_attention", "conv"]


def test_layers_that_are_given_stay():
    given = {"model_type": "lfm2_moe", "num_hidden_layers": 2, "layer_types": ["full_attention", "conv"]}
    assert with_small_defaults(given)["layer_types"] == ["full_attention", "conv"]


BAD = {
    "needs_sizes": ({"model_type": "plbart"}, "plbart also has the sizes .*encoder_attention_heads = 12.*: give those in"),
    "needs_kinds": ({"model_type": "dbrx"}, "tie_word_embeddings.*n_heads = 16, n_layers = 24: give those in"),
    "two_texts": ({"model_type": "musicgen"}, "cannot be built: .*text_encoder"),
    "parts": ({"model_type": "gemma3"}, r'several parts \(text_config, vision_config\).*model_type = "gemma3_text"'),
    "negative": ({"model_type": "qwen3", "hidden_size": -8}, "cannot be built"),
    "endless": ({"model_type": "qwen3", "num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
    "gigantic": ({"model_type": "qwen3", "hidden_size": 10**6, "intermediate_size": 10**6}, "more than the .* GiB of this"),
    "activation": ({"model_type": "qwen3", "hidden_act": "magic"}, "cannot be built: KeyError: 'magic'"),
    "text": ({"model_type": "qwen3", "hidden_size": "many"}, "cannot be built: .*hidden_size"),
    "only_when_run": ({"model_type": "deepseek_v3", "head_dim": 32}, "cannot be built: RuntimeError: The size of tensor"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_makes_no_model_is_one_line_that_says_what_to_give(case):
    fields, message = BAD[case]
    with pytest.raises(ModelError, match=message) as caught:
        load_model(from_scratch(**fields), ["ab"])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 900


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("dtype", 3, r"dtype is no field to give there. Set dtype in \[model\]"),
        ("torch_dtype", "x", r"torch_dtype is no field to give there. Set dtype in \[model\]"),
        ("_attn_implementation", "z", r"Set attn_implementation in \[model\]"),
        ("_anything", 1, "Leave it out"),
        ("architectures", ["GPT2"], "model_type decides"),
        ("rms_norm_eps", float("inf"), "rms_norm_eps is inf"),
        ("attention_dropout", 7.5, "attention_dropout is 7.5"),
        ("initializer_range", float("nan"), "initializer_range is"),
    ],
)
def test_what_is_no_field_of_a_new_model_is_refused(field, value, says):
    with pytest.raises(ModelError, match=says):
        with_small_defaults({"model_type": "qwen3", field: value})


def test_an_unknown_attention_is_named():
    table = ModelTable.model_validate({"from_scratch": {"model_type": "qwen3"}, "attn_implementation": "magic"})
    with pytest.raises(ModelError, match=r"Correct attn_implementation in \[model\]"):
        load_model(table, ["01"])
