"""clip_cov and kl_cov by hand: a few tokens are chosen by the covariance of log-prob and advantage."""

from __future__ import annotations

import math

import torch

from plugrad_policy.losses.clip_cov import clip_cov
from plugrad_policy.losses.covariance import covariances
from plugrad_policy.losses.kl_cov import kl_cov

# Log-probs -1, -1, -3, -3 and advantages 1, -1, 1, -1 covary by 1, -1, -1, 1.
LOGPROBS = torch.tensor([[-1.0, -1.0, -3.0, -3.0]], dtype=torch.float64)
ADVANTAGES = [[1.0, -1.0, 1.0, -1.0]]


def on_policy(rows, advantages=ADVANTAGES):
    inputs = rows([[1.0] * 4], advantages, old_logprobs=LOGPROBS)
    return type(inputs)(**{**vars(inputs), "trainer_logprobs": LOGPROBS.clone().requires_grad_()})


def test_the_covariance_is_of_the_counted_tokens(rows, close):
    close(covariances(on_policy(rows)), [[1.0, -1.0, -1.0, 1.0]])


def test_clip_cov_holds_back_what_is_between_the_bounds(rows, evaluate, close):
    inputs = on_policy(rows)
    sums, gradient = evaluate(clip_cov, inputs, fraction=1.0, cov_low=0.5)
    close(sums, [1.0 - 1.0])
    close(gradient, [[0.0, 1.0, -1.0, 0.0]])
    assert clip_cov(inputs, fraction=1.0, cov_low=0.5).metrics["held_fraction"].value() == 0.5
    close(evaluate(clip_cov, inputs, fraction=1.0, cov_low=0.5, cov_high=0.9)[1], [[-1.0, 1.0, -1.0, 1.0]])


def test_clip_cov_draws_at_least_one_and_not_always_the_same(rows, evaluate):
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        _, gradient = evaluate(clip_cov, on_policy(rows), cov_low=0.5)
        held = (gradient == 0).nonzero()[:, 1].tolist()
        assert len(held) == 1
        seen.update(held)
    assert seen == {0, 3}


def test_clip_cov_leaves_alone_what_the_clip_decides(rows, evaluate, close):
    inputs = on_policy(rows)
    clipped = type(inputs)(**{**vars(inputs), "old_logprobs": LOGPROBS - torch.tensor([[math.log(2), 0.0, 0.0, 0.0]])})
    metrics = clip_cov(clipped, fraction=1.0, cov_low=0.5).metrics
    assert metrics["clip_fraction"].value() == metrics["held_fraction"].value() == 0.25
    close(clip_cov(clipped, fraction=1.0, cov_low=0.5).loss[0, 0], -1.2)


def test_kl_cov_ties_down_the_greatest(rows, evaluate, close):
    inputs = rows([[2.0, 1.0, 0.5, 1.0]], [[3.0, 0.0, 0.0, 0.0]])
    # The first token has both the greatest advantage and the greatest log-prob.
    sums, gradient = evaluate(kl_cov, inputs, coefficient=0.5)
    close(sums, [-6.0 + 0.5 * math.log(2)])
    close(gradient, [[-6.0 + 0.5, 0.0, 0.0, 0.0]])
    assert kl_cov(inputs).metrics["penalised_fraction"].value() == 0.25
    assert math.isclose(kl_cov(inputs).metrics["abs_log_ratio"].value(), math.log(2) / 2)


def test_kl_covs_penalty_pulls_back_from_either_side(rows, evaluate, close):
    inputs = rows([[2.0, 0.5]], [[0.0, 0.0]])
    close(evaluate(kl_cov, inputs, fraction=1.0)[0], [2 * math.log(2)])
    close(evaluate(kl_cov, inputs, fraction=1.0)[1], [[1.0, -1.0]])
