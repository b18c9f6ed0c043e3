"""The context of a model ends where its rotary frequencies would depend on the longest row."""

import pytest
from transformers import AutoConfig

from plugrad import DataError
from plugrad.policy.context import context_of
from plugrad.testing import tiny_model

FACTORS = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
LONGROPE = {"rope_type": "longrope", **FACTORS}
PHI3 = {"model_type": "phi3", "max_position_embeddings": 256, "pad_token_id": 0, "original_max_position_embeddings": 24}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}
LAYERS = {"full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 24, **FACTORS}}


@pytest.mark.parametrize(
    ("fields", "length", "why"),
    [
        ({**PHI3, "rope_parameters": LONGROPE}, 24, "more than 24 tokens (rope_type 'longrope')"),
        ({"model_type": "llama", "max_position_embeddings": 64, "rope_parameters": DYNAMIC}, 64, "(rope_type 'dynamic')"),
        ({"model_type": "llama", "max_position_embeddings": 64}, 64, ""),
        (
            {
                "model_type": "llama",
                "max_position_embeddings": 64,
                "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
            },
            64,
            "",
        ),
        ({"model_type": "mamba"}, None, ""),
    ],
)
def test_the_context(fields, length, why):
    context = context_of(tiny_model(**fields))
    assert context.length == length
    assert why in context.why
    assert bool(why) == bool(context.why)


def test_parameters_of_each_type_of_layer_and_a_configuration_inside_another():
    model = tiny_model(model_type="llama", max_position_embeddings=64)
    text = model.config
    text.rope_parameters = LAYERS
    assert context_of(model).length == 24
    model.config = AutoConfig.for_model("llava", text_config=text)
    assert context_of(model).length == 24


def test_a_run_beyond_the_boundary_is_refused_with_its_number(run):
    model = {"from_scratch": {**PHI3, "rope_parameters": LONGROPE, "hidden_size": 64, "num_hidden_layers": 1}}
    rollout = {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 22}
    with pytest.raises(DataError, match=r"(?s)leaves 2 .*switches to other rotary .* 24 tokens"):
        run(model=model, rollout=rollout)
    run(model=model, rollout={**rollout, "max_new_tokens": 4}, max_steps=1)
