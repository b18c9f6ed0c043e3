"""Further passes: what they give, and derivatives with respect to the embeddings, in every layout of the tokens."""

import pytest
import torch
from torch import nn

from plugrad import ModelError
from plugrad.policy.more_passes import MorePasses
from plugrad.policy.policy import Policy
from plugrad.policy.scored import Wanted
from plugrad.policy.shifts import check_shifts, width_of
from plugrad.testing import tiny_model

IDS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 2, 0, 0], [8, 7, 6, 5, 0]])
ATTENTION = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]).bool()
COUNTED = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
FURTHER = Wanted(entropy="gradient", further=True)
MODELS = ["llama", "qwen3", "gpt2", "gemma2", "gemma3_text", "cohere"]


def passes_of(policy, num, **more):
    return MorePasses(
        policy, IDS, ATTENTION, COUNTED, FURTHER, num=num, width=width_of(policy.model), dtype=torch.double, **more
    )


def policy_of(model_type, layout="padded", **config):
    model = tiny_model(dtype="float64", model_type=model_type, **config)
    policy = Policy(model, 0.7, packs=layout == "packed")
    if layout == "packed":
        model.set_attn_implementation("plugrad_sequences_by_position")
    policy.rows_alone = layout == "alone"
    return policy


def precision_of(model_type):
    """Return a step of finite differences and their precision. All but GPT-2 compute their norms in float32."""
    return (1e-5, 1e-6) if model_type == "gpt2" else (2e-4, 2e-2)


def drawn(width, size=0.1):
    return size * torch.randn(*IDS.shape, width, dtype=torch.double, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layout", ["padded", "packed", "alone"])
@pytest.mark.parametrize("model_type", MODELS)
def test_a_sensitivity_is_the_derivative(model_type, layout):
    policy = policy_of(model_type, layout)
    passes = passes_of(policy, num=4, is_sharded=layout == "alone")
    scored = passes.first(Wanted(entropy="gradient"))
    found = passes.sensitivity(scored.logprobs.sum() + scored.entropy.square().sum())
    assert found.shape == (*IDS.shape, width_of(policy.model))
    assert found[0].any()
    assert not found[~ATTENTION].any()
    assert not found[2].any(), "nothing counts there"
    direction, (step, precision) = drawn(width_of(policy.model), 1.0), precision_of(model_type)
    totals = [
        (logprobs.sum() + entropy.square().sum()).item()
        for logprobs, entropy in (passes.again(sign * step * direction) for sign in (1, -1))
    ]
    assert float((found * direction).sum()) == pytest.approx((totals[0] - totals[1]) / (2 * step), rel=precision)


@pytest.mark.parametrize("layout", ["padded", "packed", "alone"])
def test_a_shift_is_added_to_what_the_model_embeds(layout):
    policy, shift = policy_of("llama", layout), drawn(32)
    passes = passes_of(policy, num=3)
    first = passes.first(Wanted(entropy="gradient"))
    moved, (unmoved, entropy) = passes.again(shift), passes.again(0 * shift)
    assert torch.equal(first.logprobs, unmoved)
    assert torch.equal(first.entropy, entropy)
    policy.model.set_attn_implementation("sdpa")
    embedded = policy.model.get_input_embeddings()(IDS) + shift
    logits = policy.model(inputs_embeds=embedded, attention_mask=ATTENTION.long()).logits / 0.7
    expected = logits[:, :-1].log_softmax(-1).gather(-1, IDS[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(moved.trainer_logprobs[:, 1:], expected.where(COUNTED[:, 1:], 0.0), rtol=1e-9, atol=1e-9)


def test_frozen_embeddings_are_shifted_too():
    policy = policy_of("llama", tie_word_embeddings=False)
    policy.model.get_input_embeddings().weight.requires_grad_(False)
    passes = passes_of(policy, num=2)
    assert passes.sensitivity(passes.first(Wanted()).logprobs.sum()).any()


def test_a_derivative_of_a_later_pass_is_taken_where_it_was_shifted_to():
    policy, shift = policy_of("gpt2"), drawn(32)
    passes = passes_of(policy, num=4)
    step, precision = precision_of("gpt2")
    passes.first(Wanted())
    found = passes.sensitivity(passes.again(shift).trainer_logprobs.sum())
    direction = drawn(32, 1.0)
    totals = [passes.again(shift + sign * step * direction).trainer_logprobs.sum().item() for sign in (1, -1)]
    assert float((found * direction).sum()) == pytest.approx((totals[0] - totals[1]) / (2 * step), rel=precision)


def test_missing_passes_are_made_and_count_for_nothing():
    policy = policy_of("llama")
    passes = passes_of(policy, num=3, is_sharded=True)
    scored = passes.first(Wanted())
    passes.complete(2)
    with pytest.raises(Exception, match="more often than the losses"):
        passes.again(drawn(32))
    weights = list(policy.parameters())
    alone = torch.autograd.grad(scored.logprobs.sum(), weights, retain_graph=True)
    found = torch.autograd.grad(scored.logprobs.sum() + passes.nothing(), weights)
    assert all(torch.equal(one, other) for one, other in zip(alone, found, strict=True))


def test_experts_are_counted_in_the_first_pass_alone():
    policy = policy_of("mixtral", output_router_logits=True, num_experts_per_tok=2)
    passes = passes_of(policy, num=2)
    passes.first(Wanted())
    counts = policy.expert_counts.clone()
    passes.again(drawn(32))
    assert torch.equal(policy.expert_counts, counts)


class EmbedsTwice(nn.Module):
    def __init__(self, times):
        super().__init__()
        self.model, self.times = tiny_model(), times
        self.config = self.model.config

    def get_input_embeddings(self):
        return self.model.get_input_embeddings()

    def forward(self, input_ids, **inputs):
        embedded = sum(self.get_input_embeddings()(input_ids) for _ in range(self.times))
        if not self.times:
            embedded = self.get_input_embeddings().weight[input_ids]
        return self.model(inputs_embeds=embedded, attention_mask=inputs["attention_mask"])


@pytest.mark.parametrize(("times", "told"), [(0, "embeds the tokens 0 times"), (2, "embeds the tokens 2 times")])
def test_a_model_that_embeds_otherwise_is_refused(times, told):
    with pytest.raises(ModelError, match=told):
        check_shifts(EmbedsTwice(times))


def test_a_model_that_names_no_embedding_is_refused():
    with pytest.raises(ModelError, match="does not name the module that embeds its tokens"):
        check_shifts(nn.Linear(2, 2))


@pytest.mark.parametrize("model_type", [*MODELS, "opt", "mixtral"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_usual_models_are_not_refused(model_type, checkpointing):
    model = tiny_model(model_type=model_type)
    if checkpointing:
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)({"use_reentrant": False})
    check_shifts(model.eval())
    assert not model.training
