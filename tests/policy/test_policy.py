"""The policy's forward pass against the model's own logits."""

import pytest
import torch

from plugrad.policy.fused_logprobs import TokenScores
from plugrad.policy.lm_head import LinearHead
from plugrad.policy.policy import Policy
from plugrad.policy.scored import Wanted
from plugrad.testing import tiny_model

IDS = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 0, 0]])
ATTENTION = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
COUNTED = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 0, 0, 0]]).bool()


def expected(model, temperature):
    logits = model(input_ids=IDS, attention_mask=ATTENTION.long()).logits / temperature
    logprobs = logits.log_softmax(-1)[:, :-1].gather(-1, IDS[:, 1:, None]).squeeze(-1)
    entropy = torch.distributions.Categorical(logits=logits[:, :-1]).entropy()
    zeros = torch.zeros(2, 1, dtype=logits.dtype)
    return [torch.where(COUNTED, torch.cat([zeros, values], 1), 0.0) for values in (logprobs, entropy)]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_are_those_of_the_models_own_logits(tied, temperature):
    model = tiny_model(dtype="float64", tie_word_embeddings=tied).eval()
    policy = Policy(model, temperature)
    assert policy.head == LinearHead()
    logprobs, entropy = policy(IDS, ATTENTION, COUNTED, Wanted(entropy="gradient"))[:2]
    for found, wanted in zip((logprobs, entropy), expected(model, temperature), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_padding_changes_nothing():
    policy = Policy(tiny_model(dtype="float64").eval(), 1.0)
    alone = policy(IDS[1:, :3], ATTENTION[1:, :3], COUNTED[1:, :3]).logprobs
    padded = policy(IDS, ATTENTION, COUNTED).logprobs
    torch.testing.assert_close(padded[1, :3], alone[0], rtol=1e-9, atol=1e-9)


def test_the_head_sees_only_counted_tokens():
    model = tiny_model()
    policy = Policy(model, 1.0)
    seen = []

    def spy(hidden, weight, *others):
        assert weight is model.get_output_embeddings().weight
        seen.append(len(hidden))
        return apply(hidden, weight, *others)

    apply = TokenScores.apply
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenScores, "apply", spy)
        policy(IDS, ATTENTION, COUNTED)
    assert seen == [int(COUNTED.sum())]


def test_a_batch_in_which_nothing_counts_still_reaches_every_parameter():
    model = tiny_model()
    logprobs = Policy(model, 1.0)(IDS, ATTENTION, torch.zeros_like(COUNTED)).logprobs
    (logprobs.sum() * 0).backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())
