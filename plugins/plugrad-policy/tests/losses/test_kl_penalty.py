"""kl_penalty: the estimators by hand, and that the corrected gradient is the gradient of the divergence."""

from __future__ import annotations

import math

import pytest
import torch

from plugrad import BatchLossInputs
from plugrad_policy.losses.kl_penalty import kl_penalty

LOG2 = math.log(2)


@pytest.mark.parametrize(
    ("estimator", "values", "gradients"),
    [
        ("k1", [LOG2, -LOG2], [1.0, 1.0]),
        ("k2", [LOG2**2 / 2, LOG2**2 / 2], [LOG2, -LOG2]),
        ("k3", [0.5 + LOG2 - 1, 2 - LOG2 - 1], [0.5, -1.0]),
        ("abs", [LOG2, LOG2], [1.0, -1.0]),
    ],
)
def test_the_estimators_by_hand(estimator, values, gradients, rows, evaluate, close):
    inputs = rows([[2.0, 0.5]], [[0.0, 0.0]])
    close(kl_penalty(inputs, estimator=estimator).loss, [values])
    close(evaluate(kl_penalty, inputs, estimator=estimator)[1], [gradients])
    assert kl_penalty(inputs, estimator=estimator).metrics["kl"].value() == pytest.approx(sum(values) / 2)


def test_the_score_function_adds_what_was_drawn_and_keeps_the_value(rows, evaluate, close):
    inputs = rows([[2.0, 0.5, 2.0]], [[0.0] * 3])
    value = evaluate(kl_penalty, inputs, estimator="k1")[0]
    for score_function, gradient in {"token": [1 + LOG2, 1 - LOG2, 1 + LOG2], "sequence": [1 + LOG2, 1.0, 1 + LOG2]}.items():
        sums, found = evaluate(kl_penalty, inputs, estimator="k1", score_function=score_function)
        close(sums, value)
        close(found, [gradient])


def test_off_policy_weighs_each_token(rows, evaluate, close):
    inputs = rows([[2.0]], [[0.0]], ref_logprobs=torch.full((1, 1), -2.0 - LOG2, dtype=torch.float64))
    # d = log 4 and w = 2: the gradient of w d is w d + w, and without the score function w.
    sums, gradient = evaluate(kl_penalty, inputs, estimator="k1", off_policy=True, score_function="token")
    close(sums, [4 * LOG2])
    close(gradient, [[4 * LOG2 + 2]])
    close(evaluate(kl_penalty, inputs, estimator="k1", off_policy=True)[1], [[2.0]])


@pytest.mark.parametrize("nats", [20.0, 100.0, 1000.0])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("score_function", ["token", "sequence"])
def test_far_from_the_reference_the_gradient_of_k3_and_its_score_is_d(nats, side, score_function, rows, evaluate, close):
    inputs = rows([[1.0]], [[0.0]], ref_logprobs=torch.full((1, 1), -2.0 - side * nats, dtype=torch.float64))
    close(evaluate(kl_penalty, inputs, score_function=score_function)[1], [[side * nats]])


def two_coins(logits, reference):
    """Return every sequence of two tokens of a policy with two words, whose second token depends on the first.

    Also the probability of each sequence, and the exact divergence from the reference, both with their graph.
    """
    policy, other = logits.log_softmax(-1), reference.log_softmax(-1)
    drawn = [(a, b) for a in (0, 1) for b in (0, 1)]

    def of(table):
        return torch.stack([torch.stack([table[0, a], table[1 + a, b]]) for a, b in drawn])

    logprobs, ref_logprobs = of(policy), of(other)
    probabilities = logprobs.sum(1).exp()
    divergence = (probabilities * (logprobs - ref_logprobs).sum(1)).sum()
    mask = torch.ones_like(logprobs, dtype=torch.bool)
    still = logprobs.detach()
    inputs = BatchLossInputs(
        trainer_logprobs=logprobs,
        inference_logprobs=still,
        advantages=torch.zeros_like(still),
        loss_mask=mask,
        ref_logprobs=ref_logprobs,
    )
    return inputs, probabilities.detach(), divergence


def mean_gradient(logits, reference, **options):
    """Return the gradient of the loss, averaged over all sequences as the policy draws them."""
    inputs, probabilities, _ = two_coins(logits, reference)
    expected = (probabilities * kl_penalty(inputs, **options).loss.sum(1)).sum()
    return torch.autograd.grad(expected, logits)[0]


@pytest.fixture
def coins():
    generator = torch.Generator().manual_seed(0)
    logits, reference = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), reference


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_with_the_score_function_of_the_sequence_the_gradient_is_the_divergences(estimator, coins, close):
    exact = torch.autograd.grad(two_coins(*coins)[2], coins[0])[0]
    close(mean_gradient(*coins, estimator=estimator, score_function="sequence"), exact)
    assert not torch.allclose(mean_gradient(*coins, estimator=estimator), exact)


def test_without_it_k1_teaches_nothing_and_k3_the_other_divergence(coins, close):
    close(mean_gradient(*coins, estimator="k1"), torch.zeros(3, 2))
    # Of the first token alone, whose distribution depends on nothing: the gradient of KL(ref || pi).
    logits, reference = coins
    policy, other = logits.log_softmax(-1), reference.log_softmax(-1)
    reverse = torch.autograd.grad((other[0].exp() * (other[0] - policy[0])).sum(), logits)[0]
    close(mean_gradient(*coins, estimator="k3")[0], reverse[0])


def test_with_the_score_function_of_the_token_the_gradient_is_k2s(coins, close):
    close(mean_gradient(*coins, estimator="k1", score_function="token"), mean_gradient(*coins, estimator="k2"))
