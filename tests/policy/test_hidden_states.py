"""The last hidden states that a loss may read: those that predict each counted token, and the one after the last."""

import pytest
import torch

from plugrad import ModelError
from plugrad.policy.policy import Policy
from plugrad.policy.scored import Wanted
from plugrad.testing import tiny_model

IDS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 2, 0, 0], [8, 7, 6, 5, 0]])
ATTENTION = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]).bool()
COUNTED = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
BOTH = Wanted(hidden_states=True, embedding=True)


def of_the_model(model):
    """Return the final layer's outputs, after its norm."""
    return model(IDS, attention_mask=ATTENTION.long(), output_hidden_states=True).hidden_states[-1]


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gpt2", "gemma2", "cohere"])
@pytest.mark.parametrize("packs", [True, False])
def test_they_are_the_models_own(model_type, packs):
    model = tiny_model(dtype="float64", model_type=model_type)
    policy = Policy(model, 0.7, packs=packs)
    if packs:
        model.set_attn_implementation("plugrad_sequences_by_position")
    scored = policy(IDS, ATTENTION, COUNTED, BOTH)
    model.set_attn_implementation("eager" if model_type == "gemma2" else "sdpa")
    own = of_the_model(model)
    close = {"rtol": 1e-6, "atol": 1e-6} if model_type in ("gemma2", "cohere") else {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(scored.hidden_states[:, 1:][COUNTED[:, 1:]], own[:, :-1][COUNTED[:, 1:]], **close)
    assert not scored.hidden_states[~COUNTED].any()
    torch.testing.assert_close(scored.embedding[:2], own[[0, 1], [4, 2]], **close)
    assert not scored.embedding[2].any(), "nothing counts there"


def test_their_gradient_reaches_the_weights():
    policy = Policy(tiny_model(dtype="float64"), 1.0)
    scored = policy(IDS, ATTENTION, COUNTED, BOTH)
    for value in (scored.hidden_states, scored.embedding):
        (found,) = torch.autograd.grad(value.square().sum(), policy.model.get_input_embeddings().weight, retain_graph=True)
        assert found.any()


def test_only_what_is_wanted_is_given():
    scored = Policy(tiny_model(dtype="float64"), 1.0)(IDS, ATTENTION, COUNTED)
    assert [name for name, value in scored._asdict().items() if isinstance(value, torch.Tensor)] == ["logprobs"]


def test_a_model_that_runs_as_a_whole_has_none_to_give():
    policy = Policy(tiny_model(), 1.0)
    policy.head = None
    policy.check_gives(Wanted(entropy="value", logits=True))
    with pytest.raises(ModelError, match="needs hidden_states or embedding cannot be used with it"):
        policy.check_gives(BOTH)


def test_in_half_precision_they_are_given_in_single():
    scored = Policy(tiny_model(dtype="bfloat16"), 1.0)(IDS, ATTENTION, COUNTED, BOTH)
    assert scored.hidden_states.dtype == scored.embedding.dtype == torch.float32
