"""Whatever a model does after its last hidden state, log-probs, entropy and gradients are those of its own logits."""

import logging

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification

from plugrad import ModelError
from plugrad.policy.lm_head import LinearHead, find_head
from plugrad.policy.policy import Policy
from plugrad.policy.scored import Wanted
from plugrad.testing import tiny_model

IDS = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 0, 0]])
ATTENTION = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
COUNTED = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]]).bool()
MINICPM3 = {
    "dim_model_base": 8,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
MODELS = [
    ("qwen3", {}, LinearHead()),
    ("llama", {}, LinearHead()),
    ("gpt2", {}, LinearHead()),
    ("gemma2", {"final_logit_softcapping": 30.0, "num_hidden_layers": 2}, LinearHead(softcap=30.0)),
    ("gemma3_text", {"final_logit_softcapping": 0.5}, LinearHead(softcap=0.5)),
    ("gemma3_text", {"final_logit_softcapping": None}, LinearHead()),
    ("granite", {"logits_scaling": 3.0}, LinearHead(scaling=1 / 3.0)),
    ("cohere", {"logit_scale": 0.1}, LinearHead(scaling=0.1)),
    ("cohere2", {"logit_scale": 0.1}, LinearHead(scaling=0.1)),
    ("minicpm3", MINICPM3, LinearHead(hidden_scaling=0.25)),
]


def numbers(head):
    return [head.hidden_scaling, head.scaling, head.softcap or 0.0]


class LowRank(nn.Linear):
    """A linear layer that is none: it adds a second product, as an adapter does."""

    def forward(self, hidden):
        return super().forward(hidden) + 0.01 * super().forward(hidden.flip(-1))


def with_odd_logits():
    """Logits are changed by what no `LinearHead` has, and by almost nothing at the size that they have here."""
    model = tiny_model(dtype="float64")

    def cube(module, inputs, output):
        output.logits = output.logits + 1e-6 * output.logits**3
        return output

    model.register_forward_hook(cube)
    return model


def with_head(head_type, bias=False):
    model = tiny_model(dtype="float64", tie_word_embeddings=False)
    head = head_type(*reversed(model.lm_head.weight.shape), bias=bias, dtype=torch.float64)
    head.load_state_dict(model.lm_head.state_dict(), strict=False)
    model.set_output_embeddings(head)
    return model


def with_norm_after_the_backbone():
    model = tiny_model(dtype="float64", tie_word_embeddings=False)
    model.lm_head.register_forward_pre_hook(lambda module, inputs: (inputs[0].tanh(),))
    return model


def with_a_head_of_two_layers():
    model = tiny_model(dtype="float64", tie_word_embeddings=False)
    hidden = model.config.hidden_size
    first = nn.Linear(hidden, hidden, dtype=torch.float64)
    model.set_output_embeddings(nn.Sequential(first, nn.GELU(), model.lm_head))
    return model


UNKNOWN = {
    "it changes its logits by neither": with_odd_logits,
    "LowRank, is not a matrix product": lambda: with_head(LowRank),
    "is not the last hidden state of its Qwen3Model": with_norm_after_the_backbone,
    "Sequential, is not a matrix product": with_a_head_of_two_layers,
}


def scores_of_logits(model, temperature):
    logits = model(input_ids=IDS, attention_mask=ATTENTION.long()).logits[:, :-1] / temperature
    logprobs = logits.log_softmax(-1).gather(-1, IDS[:, 1:, None]).squeeze(-1)
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    return [torch.where(COUNTED[:, 1:], values, 0.0) for values in (logprobs, entropy)]


def gradients(scores, model):
    weights = torch.linspace(-1, 2, scores[0].numel(), dtype=torch.float64).view_as(scores[0])
    total = (weights * scores[0]).sum() + (weights.flip(1) * scores[1]).sum()
    return torch.autograd.grad(total, list(model.parameters()))


def assert_scores_are_those_of_the_logits(model, policy):
    found = [values[:, 1:] for values in policy(IDS, ATTENTION, COUNTED, Wanted(entropy="gradient"))[:2]]
    wanted = scores_of_logits(model, policy.temperature)
    for one, other in zip([*found, *gradients(found, model)], [*wanted, *gradients(wanted, model)], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("model_type", "fields", "head"), MODELS)
def test_scaling_and_soft_capping_are_found(model_type, fields, head, tied):
    model = tiny_model(model_type=model_type, dtype="float64", tie_word_embeddings=tied, **fields)
    policy = Policy(model, 0.7)
    assert numbers(policy.head) == pytest.approx(numbers(head), rel=1e-14)
    assert_scores_are_those_of_the_logits(model, policy)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(("model_type", "fields", "head"), MODELS)
def test_they_are_found_in_other_precisions(model_type, fields, head, dtype):
    found = find_head(tiny_model(model_type=model_type, dtype=dtype, **fields))
    assert numbers(found) == pytest.approx(numbers(head), rel=1e-3 if dtype == "bfloat16" else 1e-6)


def test_a_bias_of_the_head_is_part_of_it():
    model = with_head(nn.Linear, bias=True)
    policy = Policy(model, 0.7)
    assert policy.head == LinearHead()
    assert_scores_are_those_of_the_logits(model, policy)


@pytest.mark.parametrize("why", UNKNOWN)
def test_what_is_not_known_is_left_to_the_model_and_said(caplog, why):
    model = UNKNOWN[why]()
    with caplog.at_level(logging.WARNING, "plugrad"):
        policy = Policy(model, 0.7)
    assert policy.head is None
    assert why in caplog.text
    assert "memory grows with tokens x vocabulary" in caplog.text
    assert_scores_are_those_of_the_logits(model, policy)


def test_a_head_may_be_more_precise_than_the_layers_below_it():
    model = tiny_model(dtype="bfloat16", tie_word_embeddings=False)
    model.lm_head.float()
    model.lm_head.register_forward_pre_hook(lambda module, inputs: (inputs[0].float(),))
    policy = Policy(model, 1.0)
    assert policy.head == LinearHead()
    found, wanted = policy(IDS, ATTENTION, COUNTED)[0][:, 1:], scores_of_logits(model, 1.0)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (AutoModel, "returns no logits, but last_hidden_state"),
        (AutoModelForSequenceClassification, r"logits of shape \[1, 2\] for 4 tokens of a vocabulary of"),
        (AutoModelForTokenClassification, r"logits of shape \[1, 4, 2\] for 4 tokens of a vocabulary of"),
    ],
)
def test_a_model_without_scores_of_next_tokens_is_an_error_that_says_what_to_give(kind, found):
    config = tiny_model().config
    config.pad_token_id = 0
    with pytest.raises(ModelError, match=f"(?s){found}.*AutoModelForCausalLM"):
        Policy(kind.from_config(config), 1.0)


def test_a_module_that_takes_no_tokens_is_an_error():
    with pytest.raises(ModelError, match=r"Linear cannot run on input_ids.*TypeError.*AutoModelForCausalLM"):
        Policy(nn.Linear(2, 2), 1.0)


def test_the_trial_leaves_nothing_behind():
    model = tiny_model()
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    state = torch.random.get_rng_state()
    find_head(model)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not model.lm_head._forward_hooks


@pytest.mark.parametrize("model_type", ["qwen3", "gemma2"])
def test_attention_that_needs_an_accelerator_is_tried_as_eager_and_put_back(model_type):
    model = tiny_model(model_type=model_type)
    model.set_attn_implementation("flex_attention")
    used = []
    model.model.layers[0].register_forward_hook(lambda *_: used.append(model.config._attn_implementation))
    assert find_head(model) is not None
    assert set(used) == {"eager"}
    assert model.config._attn_implementation == "flex_attention"


def test_gradient_checkpointing_changes_no_gradient():
    plain, checkpointed = (tiny_model(dtype="float64", model_type="gemma2", num_hidden_layers=2) for _ in range(2))
    getattr(checkpointed, "activation_checkpointing_enable", checkpointed.gradient_checkpointing_enable)(
        {"use_reentrant": False}
    )
    found = [
        gradients([v[:, 1:] for v in Policy(m, 0.7).train()(IDS, ATTENTION, COUNTED, Wanted(entropy="gradient"))[:2]], m)
        for m in (plain, checkpointed)
    ]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_layers_that_fsdp_wraps_are_the_models():
    model = tiny_model()
    assert Policy(model, 1.0)._no_split_modules is model._no_split_modules


def test_a_model_that_computes_nan_from_finite_weights_is_refused():
    model = tiny_model()
    model.model.norm.variance_epsilon = float("nan")
    with pytest.raises(ModelError, match=r"returns NaN for four tokens.*its weights are finite"):
        find_head(model)
