"""dppo, dppo_kl, ipo and reference_kl by hand: a bound on how far a probability moves."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from plugrad_policy.losses.dppo import binary_kl, dppo
from plugrad_policy.losses.dppo_kl import dppo_kl
from plugrad_policy.losses.ipo import ipo
from plugrad_policy.losses.reference_kl import reference_kl

# The engine's probability is 0.4, so these move it by +0.2, -0.2 and 0.
RATIOS = [[1.5, 0.5, 1.0]] * 2
ADVANTAGES = [[1.0] * 3, [-1.0] * 3]


def test_dppo_masks_what_moves_on(rows, evaluate, close):
    inputs = rows(RATIOS, ADVANTAGES, probability=0.4)
    close(evaluate(dppo, inputs)[1], [[0.0, -0.5, -1.0], [1.5, 0.0, 1.0]])
    close(evaluate(dppo, inputs, threshold=0.21)[1], [[-1.5, -0.5, -1.0], [1.5, 0.5, 1.0]])
    metrics = dppo(inputs).metrics
    assert metrics["is_masked"].value() == pytest.approx(2 / 6)
    assert metrics["divergence"].value() == pytest.approx(0.4 / 3)


def test_dppo_lets_a_rare_token_change_its_ratio(rows, evaluate, close):
    inputs = rows([[3.0, 30.0]], [[1.0, 1.0]], probability=0.001)
    close(evaluate(dppo, inputs)[1], [[-3.0, -20.0]])
    close(evaluate(dppo, inputs, max_ratio=2.0)[1], [[-2.0, -2.0]])


def test_dppo_by_kl(rows, evaluate, close):
    inputs = rows([[1.5, 1.2]], [[1.0, 1.0]], probability=0.4)
    kl = 0.4 * math.log(0.4 / 0.6) + 0.6 * math.log(0.6 / 0.4)
    measured = dppo(inputs, divergence="kl").metrics["divergence"].value()
    assert measured == pytest.approx((kl + 0.4 * math.log(0.4 / 0.48) + 0.6 * math.log(0.6 / 0.52)) / 2)
    close(evaluate(dppo, inputs, divergence="kl")[1], [[0.0, -1.2]])
    close(evaluate(dppo, inputs, divergence="kl", threshold=kl + 0.01)[1], [[-1.5, -1.2]])


def test_binary_kl_is_finite_where_a_token_is_certain():
    certain, rare = torch.zeros(1), torch.full((1,), -50.0)
    assert binary_kl(certain, rare).isfinite().all()
    assert binary_kl(rare, certain).isfinite().all()
    assert binary_kl(certain, certain).item() == 0.0


@pytest.mark.parametrize("logprob", [1e-6, 1.0, 100.0, 1e4])
@pytest.mark.parametrize("field", ["trainer_logprobs", "inference_logprobs"])
@pytest.mark.parametrize(("loss", "options"), [(dppo, {}), (dppo, {"divergence": "kl"}), (dppo_kl, {}), (ipo, {})])
def test_a_log_prob_above_zero_is_a_probability_of_one(rows, loss, options, field, logprob):
    inputs = rows(RATIOS, ADVANTAGES, probability=0.4)
    changed = getattr(inputs, field).detach().clone()
    changed[0, -1] = logprob
    metrics = loss(replace(inputs, **{field: changed}), **options).metrics
    values = {name: measure.value() for name, measure in metrics.items()}
    assert all(map(math.isfinite, values.values())), values
    if "divergence" in values and not options:
        assert values["divergence"] <= 1.0


def test_dppo_kl_masks_by_the_side_of_the_advantage(rows, evaluate, close):
    inputs = rows(RATIOS, ADVANTAGES, probability=0.4)
    bounds = {"mask_low": 0.1, "mask_high": 0.1}
    close(evaluate(dppo_kl, inputs, **bounds, kl_tau=0.0)[1], [[0.0, -0.5, -1.0], [1.5, 0.0, 1.0]])
    # The gradient of the squared log-ratio is there for masked tokens too.
    up, down = 2 * math.log(1.5), 2 * math.log(0.5)
    close(evaluate(dppo_kl, inputs, **bounds, adv_tau=0.0, kl_tau=1.0)[1], [[up, down, 0.0]] * 2)
    metrics = dppo_kl(inputs, **bounds).metrics
    assert metrics["is_masked_low"].value() == metrics["is_masked_high"].value() == pytest.approx(1 / 6)


def test_dppo_kls_value(rows, close):
    outputs = dppo_kl(rows([[1.5]], [[2.0]], probability=0.4), mask_high=0.3, adv_tau=0.5, kl_tau=0.1)
    close(outputs.loss, [[-1.5 + 0.1 * math.log(1.5) ** 2]])


def test_ipo_masks_on_both_sides(rows, evaluate, close):
    inputs = rows(RATIOS, ADVANTAGES, probability=0.4)
    close(evaluate(ipo, inputs, kl_tau=0.0)[1], [[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
    close(evaluate(ipo, inputs, kl_tau=0.0, threshold=0.3)[1], [[-1.5, -0.5, -1.0], [1.5, 0.5, 1.0]])
    assert ipo(inputs).metrics["is_masked"].value() == pytest.approx(4 / 6)


def test_reference_kl_learns_what_the_other_model_finds_likelier(rows, evaluate, close):
    reference = torch.tensor([[0.8, 0.2, 0.2]], dtype=torch.float64).log()
    inputs = rows([[1.0, 1.0, 0.25]], [[0.0] * 3], probability=0.4, ref_logprobs=reference)
    sums, gradient = evaluate(reference_kl, inputs, kl_tau=0.0)
    # log 2 and -log 2; the third has fallen by 0.3 and is masked.
    close(sums, [0.0])
    close(gradient, [[-math.log(2), math.log(2), 0.0]])
    assert reference_kl(inputs).metrics["ref_kl"].value() == pytest.approx(math.log(2) / 3)


def test_reference_kl_of_a_teacher(rows, evaluate, close):
    teacher = torch.tensor([[0.8]], dtype=torch.float64).log()
    inputs = rows([[1.0]], [[0.0]], probability=0.4, teacher_logprobs=teacher)
    close(evaluate(reference_kl, inputs, towards="teacher")[1], [[-math.log(2)]])
