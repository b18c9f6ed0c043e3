"""dapo, dr_grpo, dual_clip, opsm and top_entropy_quantile by hand: PPO's clip, and what each adds to it."""

from __future__ import annotations

import pytest
import torch

from plugrad_policy.losses.dapo import dapo
from plugrad_policy.losses.dr_grpo import dr_grpo
from plugrad_policy.losses.dual_clip import dual_clip
from plugrad_policy.losses.opsm import opsm
from plugrad_policy.losses.top_entropy_quantile import top_entropy_quantile


def test_dapo_clips_higher_than_lower(rows, evaluate, close):
    inputs = rows([[1.25, 1.5, 0.5, 0.5, 0.9]], [[1.0, 1.0, -1.0, 1.0, -2.0]])
    per_token = dapo(inputs).loss
    close(per_token[0], [-1.25, -1.28, 0.8, -0.5, 1.8])
    # d(r A) / d(log pi) = r A; none where the clip decides.
    close(evaluate(dapo, inputs)[1][0], [-1.25, 0.0, 0.0, -0.5, 1.8])


def test_dapo_reports_what_the_clip_decides(rows):
    metrics = dapo(rows([[1.5, 1.5, 0.5, 1.0]], [[1.0, -1.0, -1.0, 1.0]])).metrics
    assert metrics["clip_fraction"].value() == 0.5
    assert metrics["ratio"].value() == pytest.approx(1.125)


def test_dr_grpo_is_ppos_clip_over_a_constant(rows, evaluate, close):
    inputs = rows([[1.25, 0.5], [1.1]], [[1.0, 1.0], [-1.0]])
    sums, gradient = evaluate(dr_grpo, inputs)
    close(sums, [-1.7, 1.1])
    close(gradient, [[0.0, -0.5], [1.1, 0.0]])


def test_dual_clip_bounds_what_a_negative_advantage_costs(rows, evaluate, close):
    inputs = rows([[2.0, 5.0, 5.0, 0.5]], [[-1.0, -2.0, 1.0, -1.0]])
    close(dual_clip(inputs).loss[0], [2.0, 6.0, -1.2, 0.8])
    close(evaluate(dual_clip, inputs)[1][0], [2.0, 0.0, 0.0, 0.0])
    metrics = dual_clip(inputs).metrics
    assert metrics["ceiling_fraction"].value() == 0.25
    assert metrics["clip_fraction"].value() == 0.5


def test_opsm_leaves_out_bad_sequences_that_the_policy_has_left(rows, evaluate, close):
    # Mean of log mu - log pi: log 2 / 2 in the first three, minus that in the last.
    ratios = [[0.5, 1.0], [0.5, 1.0], [1.0, 0.5], [2.0, 1.0]]
    inputs = rows(ratios, [[1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0], [-1.0, -1.0]])
    sums, gradient = evaluate(opsm, inputs, delta=0.3)
    close(sums, [-1.5, 0.0, 0.0, 3.0])
    close(gradient, [[-0.5, -1.0], [0.0, 0.0], [0.0, 0.0], [2.0, 1.0]])
    close(evaluate(opsm, inputs, delta=0.4)[0], [-1.5, 1.8, 1.8, 3.0])
    assert opsm(inputs, delta=0.3).metrics["is_masked"].value() == 0.5


def test_opsm_measures_from_the_engine_and_clips_from_the_old_policy(rows, close):
    inputs = rows([[1.5, 1.0]], [[-1.0, -1.0]], old_logprobs=torch.full((1, 2), -1.0, dtype=torch.float64))
    # Against the old policy both have fallen, against the engine none has: nothing is masked.
    assert opsm(inputs).metrics["is_masked"].value() == 0.0
    close(opsm(inputs).loss[0], [0.8, 0.8])


def test_top_entropy_quantile_learns_where_the_policy_hesitates(rows, evaluate, close):
    entropy = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.5, 9.0, 9.0, 9.0]], dtype=torch.float64)
    inputs = rows([[1.0, 1.5, 1.1, 1.0], [0.9]], [[1.0] * 4, [-1.0]], entropy=entropy)
    sums, gradient = evaluate(top_entropy_quantile, inputs, quantile=0.5)
    close(sums, [-1.28 - 1.0, 0.9])
    close(gradient, [[0.0, 0.0, 0.0, -1.0], [0.9, 0.0, 0.0, 0.0]])
    metrics = top_entropy_quantile(inputs, quantile=0.5).metrics
    assert metrics["is_masked"].value() == pytest.approx(2 / 5)
    assert float(metrics["entropy_bound"]) == pytest.approx(0.3)


def test_the_whole_quantile_is_dapo(drawn, evaluate, close):
    whole, expected = evaluate(top_entropy_quantile, drawn(), quantile=1.0), evaluate(dapo, drawn())
    close(whole[0], expected[0])
    close(whole[1], expected[1])


@pytest.mark.parametrize("quantile", [0.1, 0.25, 0.4, 0.99])
def test_the_bound_is_torchs_quantile(quantile, drawn, close):
    inputs = drawn()
    entropy = inputs.entropy[inputs.loss_mask]
    close(top_entropy_quantile(inputs, quantile=quantile).metrics["entropy_bound"], entropy.quantile(1 - quantile).item())
