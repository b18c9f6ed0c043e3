"""A row's results do not depend on the rows beside it, even where the model's would."""

import logging

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from plugrad.policy.neighbours import without_gradient
from plugrad.policy.policy import Policy
from plugrad.policy.scored import Wanted
from plugrad.testing import tiny_model, tiny_tokenizer

IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 0, 0, 0]])
ATTENTION = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]).bool()
COUNTED = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0]]).bool()
TEXT = {"model_type": "gemma3_text", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}


class Shared(nn.Module):
    """Subtracts a statistic over the batch: of all rows, or of the longest."""

    def __init__(self, statistic):
        super().__init__()
        self.statistic = statistic

    def forward(self, hidden):
        return hidden - self.statistic(hidden)


MIXING = {"a mean over the batch": lambda hidden: hidden.mean(), "the width": lambda hidden: hidden.shape[1] / 10}


def mixing(kind):
    model = tiny_model(dtype="float64")
    model.model.norm = nn.Sequential(model.model.norm, Shared(MIXING[kind]))
    return model


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("kind", MIXING)
def test_a_model_that_mixes_rows_gets_one_row_at_a_time(kind, logits, caplog):
    with caplog.at_level(logging.WARNING, "plugrad"):
        policy = Policy(mixing(kind), 0.7)
    assert policy.rows_alone
    assert "Every sequence gets a forward pass of its own" in caplog.text
    together = policy(IDS, ATTENTION, COUNTED, Wanted(entropy="gradient", logits=logits))
    for row, length in enumerate((6, 3)):
        batch = [column[row : row + 1, :length] for column in (IDS, ATTENTION, COUNTED)]
        alone = policy(*batch, Wanted(entropy="gradient", logits=logits))
        given = [name for name, value in alone._asdict().items() if isinstance(value, torch.Tensor)]
        assert given == ["logprobs", "entropy", *(["logits"] if logits else [])]
        for name in given:
            found, wanted = getattr(together, name), getattr(alone, name)
            torch.testing.assert_close(found[row, :length], wanted[0], rtol=1e-12, atol=1e-12)
            assert not found[row, length:].any()


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("model_type", ["qwen3", "gpt2", "gemma2", "mixtral", "mamba"])
def test_rows_of_other_models_stay_together(model_type, dtype):
    sizes = {"num_hidden_layers": 2} if model_type == "gemma2" else {}
    assert not Policy(tiny_model(model_type=model_type, dtype=dtype, **sizes), 1.0).rows_alone


def test_parameters_that_text_does_not_reach_are_found():
    text = {**TEXT, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(tiny_tokenizer())}
    config = AutoConfig.for_model(
        "gemma3", text_config=text, vision_config={**VISION, "patch_size": 14}, mm_tokens_per_image=4
    )
    model = AutoModelForCausalLM.from_config(config)
    unused = without_gradient(model)
    model(input_ids=IDS, attention_mask=ATTENTION.long()).logits.sum().backward()
    assert unused == [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert any("vision_tower" in name for name in unused)
    assert any("projector" in name for name in unused)


def test_text_reaches_every_parameter_of_a_plain_model():
    assert without_gradient(tiny_model()) == []
