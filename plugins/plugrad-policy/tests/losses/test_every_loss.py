"""What every loss of the package promises: nothing but its own counted tokens matters, and no number breaks it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch

import plugrad
from plugrad.testing import conformance, loss_checks, run_checks

NAMES = sorted(
    path.stem
    for path in Path(str(import_module("plugrad_policy.losses").__file__)).parent.glob("*.py")
    if not path.stem.startswith("_")
)
HELPERS = {"covariance", "mismatch", "outcomes", "probability", "ratios", "surrogate", "ties"}
OF_ENTROPY = {"entropy_quantile_bonus"}
VARIANTS = {
    **{name: (name, {}) for name in NAMES if name not in HELPERS},
    **{f"{name} with a wide clip": (name, {"clip_low": 0.9, "clip_high": 0.9}) for name in ("gspo", "gspo_token", "luspo")},
    "dppo kl": ("dppo", {"divergence": "kl"}),
    "reference_kl of the teacher": ("reference_kl", {"towards": "teacher"}),
    "kl_cov of a half": ("kl_cov", {"fraction": 0.5}),
    "clip_cov of half": ("clip_cov", {"fraction": 0.5, "cov_low": -10.0, "cov_high": 10.0}),
    "dro by token": ("dro", {"level": "token"}),
    "topr by token": ("topr", {"level": "token"}),
    "raft with a ratio": ("raft", {"clip_range": 0.2}),
    "fipo both ways": ("fipo", {"high_only": False, "half_life": 2.0}),
    "opsm of much": ("opsm", {"delta": 0.1}),
    **{f"kl_penalty {name}": ("kl_penalty", {"estimator": name}) for name in ("k1", "k2", "abs")},
    "kl_penalty by token": ("kl_penalty", {"score_function": "token"}),
    "kl_penalty by sequence": ("kl_penalty", {"score_function": "sequence"}),
    "kl_penalty off policy": ("kl_penalty", {"score_function": "sequence", "off_policy": True}),
}


def load(variant):
    name, options = VARIANTS[variant]
    return plugrad.load("loss", f"plugrad_policy.losses.{name}:{name}", **options)


every_loss = pytest.mark.parametrize("variant", VARIANTS)
PROCESSES = {"import_effects", "one_rank_equals_two"}
"""Checks that start processes, seconds each: tried with one loss."""


@every_loss
def test_it_keeps_the_promises_of_a_loss(variant):
    name, options = VARIANTS[variant]
    checks = loss_checks(f"plugrad_policy.losses.{name}:{name}", options=options, strict=True)
    results = run_checks([check for check in checks if check.name not in PROCESSES])
    assert not [(result.check.name, result.seen) for result in results if result.is_bad]


@conformance("plugrad-policy/gspo", kind="loss", strict=True)
def test_gspo_does_so_in_processes_of_its_own_too(check):
    check()


@every_loss
def test_the_gradient_is_that_of_the_log_probs_alone_or_of_the_entropy_alone(variant, drawn):
    inputs = drawn(on_policy=True)
    total = load(variant)(inputs).loss[inputs.loss_mask].sum()
    by_logprobs, by_entropy = torch.autograd.grad(total, [inputs.trainer_logprobs, inputs.entropy], allow_unused=True)
    used, unused = (by_entropy, by_logprobs) if VARIANTS[variant][0] in OF_ENTROPY else (by_logprobs, by_entropy)
    assert used[inputs.loss_mask].any()
    assert unused is None


@every_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_an_ordinary_batch_is_finite_in_float32_at_least_with_gradients_of_its_dtype(variant, dtype, drawn, evaluate):
    sums, gradient = evaluate(load(variant), drawn(dtype=dtype))
    assert gradient.dtype == dtype
    assert sums.dtype == torch.promote_types(dtype, torch.float32)
    assert sums.isfinite().all()
    assert gradient.isfinite().all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("ratio", [1e-40, 1e40])
def test_an_extreme_ratio_is_finite(variant, dtype, ratio, rows, evaluate):
    log_ratio = torch.tensor(ratio, dtype=torch.float64).log()
    for advantage in (1.0, -1.0):
        inputs = rows([[1.0, 1.0, 1.0], [1.0]], [[advantage] * 3, [advantage]], dtype=dtype)
        other = (inputs.trainer_logprobs.detach() - log_ratio.to(dtype)).clamp(max=0)
        policy = (other + log_ratio.to(dtype)).requires_grad_()
        fields = dict.fromkeys(("inference_logprobs", "old_logprobs", "ref_logprobs", "teacher_logprobs"), other)
        extreme = type(inputs)(**{**vars(inputs), **fields, "trainer_logprobs": policy})
        sums, gradient = evaluate(load(variant), extreme)
        assert sums.isfinite().all()
        assert gradient.isfinite().all()


@every_loss
def test_a_single_token_sequence(variant, rows, evaluate):
    sums, gradient = evaluate(
        load(variant), rows([[1.1]], [[1.0]], teacher_logprobs=torch.full((1, 1), -1.5, dtype=torch.float64))
    )
    assert sums.isfinite().all()
    assert gradient.isfinite().all()


@every_loss
def test_every_metric_is_described(variant, drawn):
    loss = load(variant)
    documented = str(loss.bound.component.target.__doc__).split("Reports:")[1]
    for name in loss(drawn()).metrics:
        assert f" {name}: " in documented


@every_loss
def test_the_reduction_is_that_of_its_paper(variant):
    by_sequence = dict.fromkeys(("gspo", "gspo_token", "gmpo", "sapo", "raft"), "sequence")
    by_sum = dict.fromkeys(("luspo", "dro", "topr", "a_star_po"), "sequence_sum")
    expected = {"dr_grpo": "constant", "real": "group", **by_sum, **by_sequence}
    assert load(variant).reduction == expected.get(VARIANTS[variant][0], "token")


def test_the_package_offers_each_of_them():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name in set(NAMES) - HELPERS:
        assert f'{name} = "plugrad_policy.losses.{name}:{name}"' in text


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dapo", {"clip_high": -0.1}),
        ("dro", {"beta": -1.0}),
        ("m2po", {"threshold": 0.0}),
        ("real", {"tau": 0.0}),
        ("fipo", {"weight_range": 1.0}),
        ("dual_clip", {"ceiling": 1.0}),
        ("cispo", {"clip_low": 1.5}),
        ("sapo", {"tau_neg": 0.0}),
        ("dppo", {"divergence": "js"}),
        ("kl_cov", {"fraction": 0.0}),
        ("top_entropy_quantile", {"quantile": 1.5}),
        ("kl_penalty", {"estimator": "k4"}),
    ],
)
def test_an_option_that_makes_no_sense_is_an_error(name, options):
    with pytest.raises(plugrad.OptionError, match=next(iter(options))):
        plugrad.load("loss", f"plugrad_policy.losses.{name}:{name}", **options)
