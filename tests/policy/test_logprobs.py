"""Log-probs and entropy against the plain formulas, with gradients."""

import pytest
import torch

from plugrad.policy.logprobs import token_scores


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(11, generator=generator, dtype=torch.float64)
    return hidden, weight, bias, torch.randint(11, (7,), generator=generator)


def test_logprobs_and_entropy_are_those_of_the_softmax_at_that_temperature(problem):
    hidden, weight, bias, targets = problem
    logprobs, entropy = token_scores(hidden, weight, bias, targets, temperature=0.7, entropy="gradient")
    expected = torch.distributions.Categorical(logits=(hidden @ weight.T + bias) / 0.7)
    torch.testing.assert_close(logprobs, expected.log_prob(targets), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(entropy, expected.entropy(), rtol=1e-12, atol=1e-12)


def test_both_gradients_pass_gradcheck(problem):
    hidden, weight, bias, targets = problem

    def scores(hidden, weight):
        return token_scores(hidden, weight, bias, targets, temperature=0.7, entropy="gradient")

    assert torch.autograd.gradcheck(scores, (hidden, weight))


def test_entropy_as_a_value_carries_no_graph(problem):
    logprobs, entropy = token_scores(*problem, temperature=1.0, entropy="value")
    assert logprobs.requires_grad
    assert not entropy.requires_grad


def test_an_impossible_token_adds_nothing_to_the_entropy():
    hidden, weight = torch.ones(1, 1), torch.ones(3, 1)
    bias = torch.tensor([0.0, 0.0, -torch.inf])
    _, entropy = token_scores(hidden, weight, bias, torch.tensor([0]), temperature=1.0, entropy="value")
    assert entropy.item() == pytest.approx(torch.tensor(2.0).log().item())


def test_sums_over_the_vocabulary_are_in_float32_for_bf16():
    hidden, weight = torch.randn(4, 8).bfloat16(), torch.randn(50_000, 8).bfloat16()
    logprobs, entropy = token_scores(hidden, weight, None, torch.arange(4), temperature=1.0, entropy="value")
    assert logprobs.dtype == entropy.dtype == torch.float32
    exact = (hidden @ weight.T).double().log_softmax(-1)
    torch.testing.assert_close(logprobs.double(), exact[torch.arange(4), torch.arange(4)], rtol=1e-5, atol=1e-5)
