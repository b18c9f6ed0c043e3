"""Tokens that are thousands of nats off, in every loss and metric of every package: finite, and with the right direction."""

import math
import random
from dataclasses import replace
from functools import cache

import pytest
import torch

import plugrad
from plugrad import BatchLossInputs, LossInputs, MetricInputs
from plugrad.contracts.measures import Measures, as_measure
from plugrad.host.synthetic import in_dtype, make_rollout
from plugrad.registry.scan import scan

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DISTANCES = (0.0, 1e-4, 0.1, 1.0, 19.0, 21.0, 50.0, 88.0, 90.0, 100.0, 1000.0, 1e4)
DIFFERENCES = sorted({sign * distance for sign in (1, -1) for distance in DISTANCES})
ADVANTAGES = (1.0, -1.0, 0.0)
GARBAGE = (math.nan, math.inf, -math.inf, 1e30, -1e30, -1e9, 7.0)
OF_OTHER_SYSTEMS = {"skyrl", "skyrl_whole_batch", "verl", "verl_whole_batch", "prime_rl"}
OF_OTHER_SYSTEMS |= {"nemo_rl", "nemo_rl_sequence", "nemo_rl_whole_batch", "nemo_rl_sequence_whole_batch", "nemo_rl_pairs"}
OF_OTHER_SYSTEMS |= {"nemo_rl_forward", "nemo_rl_forward_whole_batch"}
"""They run a function of another system's, whose numerics are its own."""
OF_MORE_THAN_LOGPROBS = {"adversarial", "bradley_terry", "contrastive", "distillation", "dpo", "gkd", "kto", "multi_task"}
OF_MORE_THAN_LOGPROBS |= {"orpo", "reward_shaping", "simpo", "value_clip", "explained_variance"}
"""They read pairs, values, teachers or embeddings: the conformance kit has those, in the tests of their package."""
ELSEWHERE = OF_OTHER_SYSTEMS | OF_MORE_THAN_LOGPROBS
VARIANTS = [
    ("importance_sampling", {"ratio_type": "sequence", "kl_tau": 0.1}),
    ("importance_sampling", {"teacher_tau": 0.5}),
    *(("kl_to_reference", {"estimator": name}) for name in ("k1", "k2", "k3")),
    *(("kl_penalty", {"estimator": name}) for name in ("k1", "k2", "k3", "abs")),
    *(("kl_penalty", {"score_function": name, "off_policy": True}) for name in ("none", "token", "sequence")),
    ("dppo", {"divergence": "kl"}),
    ("reference_kl", {"towards": "teacher"}),
    ("kl_cov", {"fraction": 0.5}),
    ("clip_cov", {"fraction": 0.5, "cov_low": -10.0, "cov_high": 10.0}),
    ("vespo", {"k_pos": 20.0, "lambda_pos": 1e-9}),
]
LOSSES = [(entry.name, {}) for entry in scan().of_kind("loss") if entry.name not in ELSEWHERE] + VARIANTS
METRICS = [(entry.name, {}) for entry in scan().of_kind("metric") if entry.name not in ELSEWHERE] + [
    ("kl", {"against": ["inference", "old", "reference"]}),
]
OF_LOGPROBS = ("trainer_logprobs", "inference_logprobs", "old_logprobs", "ref_logprobs", "teacher_logprobs")
of_losses = pytest.mark.parametrize(("name", "options"), LOSSES, ids=str)
of_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


@cache
def loaded(kind, name, options):
    return plugrad.load(kind, name, **dict(options))


def load(kind, name, options):
    return loaded(kind, name, tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in options.items()))


LEAVES = ("trainer_logprobs", "entropy")


def batch(differences, advantages, *, dtype=torch.float32, garbage=(0.0,), **fields):
    """Rows of a prompt's token, one token that differs from every other policy by `d`, one that does not, and padding."""
    mask = torch.tensor([[False, True, True, False]]).repeat(len(differences), 1)
    d = torch.tensor(differences, dtype=torch.float64).unsqueeze(1) * torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    policy = -1.0 + d.clamp(max=0.0)
    given = dict.fromkeys(OF_LOGPROBS, policy - d) | {
        "trainer_logprobs": policy,
        "advantages": torch.tensor(advantages).double().unsqueeze(1).expand_as(d),
        "entropy": torch.ones_like(d),
        **fields,
    }
    made = {}
    for place, (key, values) in enumerate(given.items()):
        filler = garbage[place % len(garbage)]
        made[key] = torch.where(mask, values.double(), filler).to(dtype).requires_grad_(key in LEAVES)
    rows = len(differences)
    of_rows = {"reward": torch.ones(rows, dtype=dtype), "group_ids": torch.arange(rows)}
    return BatchLossInputs(**made, **of_rows, loss_mask=mask, input_ids=torch.ones(rows, 4, dtype=torch.long))


def every_difference(dtype, garbage=(0.0,)):
    pairs = [(difference, advantage) for difference in DIFFERENCES for advantage in ADVANTAGES]
    return batch([pair[0] for pair in pairs], [pair[1] for pair in pairs], dtype=dtype, garbage=garbage)


def evaluated(loss, inputs):
    """Return the values of the counted tokens or sequences, and the gradients with respect to log-probs and entropies."""
    torch.manual_seed(0)
    outputs = loss(inputs)
    values = outputs.loss if outputs.loss.ndim == 1 else torch.where(inputs.loss_mask, outputs.loss, 0.0)
    leaves = [inputs.trainer_logprobs, inputs.entropy]
    gradients = torch.autograd.grad(values.sum(), leaves, allow_unused=True, materialize_grads=True)
    return values.detach(), gradients, outputs.metrics


def numbers_of(metrics, inputs):
    return Measures({key: as_measure(value, len(inputs.loss_mask)) for key, value in metrics.items()}).values_by_name()


@of_dtypes
@of_losses
def test_value_gradient_and_metrics_are_finite(name, options, dtype):
    inputs = every_difference(dtype)
    values, gradients, metrics = evaluated(load("loss", name, options), inputs)
    assert values.dtype == torch.promote_types(dtype, torch.float32)
    assert values.isfinite().all()
    for gradient in gradients:
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()
    found = numbers_of(metrics, inputs)
    assert all(map(math.isfinite, found.values())), found


@of_dtypes
@of_losses
def test_garbage_in_masked_slots_changes_nothing_and_gets_no_gradient(name, options, dtype):
    loss = load("loss", name, options)
    clean, dirty = every_difference(dtype), every_difference(dtype, GARBAGE)
    values, gradients, metrics = evaluated(loss, dirty)
    expected, clean_gradients, clean_metrics = evaluated(loss, clean)
    assert torch.equal(values, expected)
    for gradient, of_clean in zip(gradients, clean_gradients, strict=True):
        assert torch.equal(gradient, of_clean)
        assert not gradient[~dirty.loss_mask].any()
    assert numbers_of(metrics, dirty) == numbers_of(clean_metrics, clean)


@of_losses
def test_a_sequence_of_garbage_is_as_clean(name, options):
    loss = load("loss", name, options)
    dirty = batch([0.3], [1.0], garbage=GARBAGE)
    names = [*OF_LOGPROBS, "advantages", "entropy"]
    row = {key: getattr(dirty, key)[0].detach().requires_grad_(key == "trainer_logprobs") for key in names}
    inputs = LossInputs(**row, loss_mask=dirty.loss_mask[0], reward=torch.tensor(1.0))
    value = loss(inputs).loss
    assert value.isfinite()
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, inputs.trainer_logprobs, allow_unused=True, materialize_grads=True)
        assert gradient.isfinite().all()
        assert not gradient[~inputs.loss_mask].any()


FAR = (89.0, 100.0, 1e4)


@pytest.mark.parametrize("difference", FAR)
@pytest.mark.parametrize(
    ("name", "options", "sign", "advantage", "value"),
    [
        ("ppo_clip", {}, 1, 1.0, -1.2),
        ("ppo_clip", {}, 1, 0.0, 0.0),
        ("ppo_clip", {}, -1, -1.0, 0.8),
        ("ppo_clip", {}, -1, 0.0, 0.0),
        ("dapo", {}, 1, 1.0, -1.28),
        ("dual_clip", {}, 1, -1.0, 3.0),
        ("importance_sampling", {}, 1, 1.0, 0.0),
        ("importance_sampling", {}, 1, -1.0, 0.0),
        ("importance_sampling", {}, -1, -1.0, 0.0),
        ("rollout_is", {}, 1, 1.0, 0.0),
        ("ipo", {"kl_tau": 0.0, "threshold": 0.05}, 1, -1.0, 0.0),
        ("dppo_kl", {"kl_tau": 0.0}, 1, 1.0, 0.0),
        ("skyrl_regular", {}, 1, 1.0, -1.2),
        ("skyrl_dual_clip", {}, 1, -1.0, 3.0),
    ],
)
def test_what_is_discarded_contributes_exactly_nothing(name, options, sign, advantage, value, difference):
    inputs = batch([sign * difference], [advantage])
    values, gradients, _ = evaluated(load("loss", name, options), inputs)
    assert values[0, 1].item() == pytest.approx(value, rel=1e-6, abs=0)
    assert gradients[0][0, 1].item() == 0.0


@pytest.mark.parametrize("difference", FAR)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("name", "estimator", "slope"),
    [
        *((name, "k1", lambda d: 1.0) for name in ("kl_penalty", "kl_to_reference")),
        *((name, "k2", lambda d: d) for name in ("kl_penalty", "kl_to_reference")),
        ("kl_penalty", "abs", lambda d: math.copysign(1.0, d)),
    ],
)
def test_a_token_far_off_is_pulled_back(name, estimator, slope, sign, difference):
    inputs = batch([sign * difference], [0.0])
    _, gradients, _ = evaluated(load("loss", name, {"estimator": estimator}), inputs)
    assert gradients[0][0, 1].item() == pytest.approx(slope(sign * difference), rel=1e-6)


@pytest.mark.parametrize("difference", FAR)
@pytest.mark.parametrize("name", ["kl_penalty", "kl_to_reference"])
def test_k3_pulls_from_either_side(name, difference):
    inputs = batch([difference, -difference], [0.0, 0.0])
    _, gradients, _ = evaluated(load("loss", name, {"estimator": "k3"}), inputs)
    assert gradients[0][0, 1].item() == 1.0
    assert gradients[0][1, 1].item() < -1e12


@pytest.mark.parametrize("difference", FAR)
@pytest.mark.parametrize("name", ["ppo_clip", "dapo", "skyrl_standard", "kl_cov"])
def test_a_bad_token_that_became_far_likelier_is_pushed_down(name, difference):
    inputs = batch([difference], [-1.0])
    _, gradients, _ = evaluated(load("loss", name, {}), inputs)
    assert gradients[0][0, 1].item() > 1e12


@of_dtypes
@pytest.mark.parametrize(("name", "options"), METRICS, ids=str)
@pytest.mark.parametrize("garbage", [(0.0,), GARBAGE], ids=["clean", "garbage"])
def test_metrics_are_finite(name, options, dtype, garbage):
    inputs = every_difference(dtype, garbage)
    draw = random.Random(0)
    rollouts = [[make_rollout(draw, length=2) for _ in range(len(ADVANTAGES))] for _ in DIFFERENCES]
    fields = ("trainer_logprobs", "inference_logprobs", "old_logprobs", "ref_logprobs", "entropy", "advantages")
    given = MetricInputs(
        rollouts=rollouts,
        rewards=torch.ones(len(inputs.loss_mask), dtype=dtype),
        loss_mask=inputs.loss_mask,
        group_ids=torch.arange(len(DIFFERENCES)).repeat_interleave(len(ADVANTAGES)),
        **{field: getattr(inputs, field).detach() for field in fields},
    )
    found = {key: measure.value() for key, measure in load("metric", name, options)(given).items()}
    assert all(math.isfinite(value) for value in found.values()), found
    assert all(value >= 0 for key, value in found.items() if "k3" in key or key == "kl")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gspo", "gspo_token", "luspo", "gmpo", "vespo", "importance_sampling", "ppo_clip"])
def test_sixteen_bit_log_probs_are_computed_in_float32(name, dtype):
    generator = torch.Generator().manual_seed(0)
    policy = -3 * torch.rand(2, 300, generator=generator)
    old = policy + 0.02 * torch.randn(2, 300, generator=generator)
    mask = torch.ones(2, 300, dtype=torch.bool)
    narrow = BatchLossInputs(
        trainer_logprobs=policy.to(dtype).requires_grad_(),
        inference_logprobs=old.to(dtype),
        old_logprobs=old.to(dtype),
        advantages=torch.ones(2, 300, dtype=dtype),
        loss_mask=mask,
    )
    wide = in_dtype(narrow, torch.float32)
    wide = replace(wide, trainer_logprobs=wide.trainer_logprobs.detach().requires_grad_())
    loss = load("loss", name, {})
    values, expected = loss(narrow).loss, loss(wide).loss
    assert values.dtype == torch.float32
    assert torch.equal(values, expected)
    values.sum().backward()
    expected.sum().backward()
    assert narrow.trainer_logprobs.grad.dtype == dtype
    assert torch.equal(narrow.trainer_logprobs.grad, wide.trainer_logprobs.grad.to(dtype))
