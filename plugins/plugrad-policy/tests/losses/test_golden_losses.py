"""The losses against the values that other systems return on the same batch, to 1e-6: value and gradient."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import plugrad
from plugrad import BatchLossInputs

PEERS = json.loads((Path(__file__).parents[1] / "golden" / "peers.json").read_text())
BATCH = PEERS["batch"]
LENGTHS = [5, 3]
MAX_NEW_TOKENS = 8

PPO_CLIP = {"clip_low": 0.2, "clip_high": 0.2}
WIDE = {"mask_low": 9.0, "mask_high": 9.0, "kl_tau": 0.0}
CISPO_TINKER = {"clip_low": 1.0, "clip_high": 3.0}

OF_SEQUENCES = {
    "prime_rl/HEAD/default_loss_fn(dppo+kl)/defaults": ("dppo_kl", {}),
    "prime_rl/HEAD/default_loss_fn(dppo+kl)/no_mask_kl0": ("dppo_kl", WIDE),
    "prime_rl/HEAD/ipo_loss_fn/defaults": ("ipo", {}),
    "prime_rl/HEAD/ref_kl_loss_fn": ("reference_kl", {}),
    "prime_rl/seed_doc/ppo_clip_loss/clip_eps_0.2": ("dapo", PPO_CLIP),
}
"""prime-rl's rows: the sum and gradient of each sequence."""

OF_THE_SUM = {
    "tinker/importance_sampling": ("dppo_kl", WIDE),
    "tinker/ppo(0.8,1.2)": ("dapo", PPO_CLIP),
    "tinker/cispo(0.0,4.0)": ("cispo", CISPO_TINKER),
}
"""Tinker's rows: the sum over both sequences, and its gradient."""

PPO = ("dapo", PPO_CLIP, 1.0)
GSPO = ("gspo", PPO_CLIP, 1.0)
KL = ("kl_penalty", {}, 0.04)
KL_UNBIASED = ("kl_penalty", {"score_function": "token", "off_policy": True}, 0.04)
OF_OBJECTIVES = {
    "trl/grpo/token": [(*PPO, "sequence")],
    "trl/bnpo/token": [(*PPO, "token")],
    "trl/dapo/token": [(*PPO, "token")],
    "trl/dapo/token/eps_high_0.28": [("dapo", {}, 1.0, "token")],
    "trl/dr_grpo/token": [("dr_grpo", {}, 1.0, "constant")],
    "trl/grpo/sequence": [(*GSPO, "sequence")],
    "trl/bnpo/sequence": [(*GSPO, "token")],
    "trl/dapo/sequence": [(*GSPO, "token")],
    "trl/dr_grpo/sequence": [(*GSPO, "constant")],
    "trl/luspo/sequence": [("luspo", PPO_CLIP, 1.0, "sequence_sum")],
    "trl/cispo/token": [("cispo", {}, 1.0, "token")],
    "trl/sapo/token": [("sapo", {}, 1.0, "sequence")],
    "trl/vespo/token": [("vespo", {}, 1.0, "token")],
    "trl/dapo/token/delta_2.0": [("dual_clip", {"ceiling": 2.0}, 1.0, "token")],
    "trl/dapo/token/beta_0.04": [(*PPO, "token"), (*KL, "token")],
    "trl/dapo/token/beta_0.04/bias_correction_kl": [(*PPO, "token"), (*KL_UNBIASED, "token")],
    "trl/dapo/token/off_policy_mask_0.3": [("opsm", {"delta": 0.3}, 1.0, "token")],
    "trl/dapo/token/top_entropy_quantile_0.5": [("top_entropy_quantile", {"quantile": 0.5, **PPO_CLIP}, 1.0, "token")],
}
"""TRL's rows: the objective, of (loss, options, weight, reduction) terms, and its gradient."""

OF_TOKENS = {
    "slime/policy_loss/ppo_eps_0.2_0.28": ("dapo", {}),
    "slime/policy_loss/dual_clip_c_1.5": ("dual_clip", {"clip_high": 0.28, "ceiling": 1.5}),
    "slime/cispo/eps_1.0_4.0": ("cispo", {}),
    "slime/gspo": ("gspo", {"clip_low": 0.2, "clip_high": 0.28}),
    **{f"slime/approx_kl/{name}": ("kl_penalty", {"estimator": name}) for name in ("k1", "k2", "k3")},
    "slime/approx_kl/low_var_kl": ("kl_penalty", {"estimator": "k3"}),
}
"""slime's rows: a value for each token, and no gradient."""

OTHERWISE = {"slime/opsm/delta_0.3": "its mask alone, no loss: test_opsm_masks_what_slime_masks"}
NOT_COVERED = {
    "batch": "the inputs",
    "advantage_batch": "the inputs of advantages",
    "prime_rl/seed_f870f3cbd/default_loss_fn/": "core's `importance_sampling`",
    "prime_rl/HEAD/ce_loss_fn": "core's `cross_entropy`",
    "prime_rl/seed_f870f3cbd/default_advantage_fn/": "an advantage",
    "prime_rl/HEAD/grpo/linear_length_penalty": "an advantage",
    "prime_rl/HEAD/max_rl": "an advantage",
    "prime_rl/HEAD/rae": "an advantage",
    "trl/advantages/": "an advantage",
    "slime/advantages/": "an advantage",
    "trl/luspo/token": "TRL's mean over [batch, seq] includes padding: its two padded slots have a gradient",
    "trl/cispo/sequence": "TRL's ratio per sequence in CISPO: no paper has it, and no loss here",
    "trl/sapo/sequence": "TRL's ratio per sequence in SAPO: likewise",
    "trl/grpo/token/entropy_coef_0.01": "core's `entropy_bonus` beside `ppo_clip`",
    "trl/dapo/token/is_": "a correction for the engine that goes before any loss: an extension",
    "trl/GA2/": "gradient accumulation: the host's",
    "tinker/dro": "no loss of this package",
}


def padded(name):
    rows = [torch.tensor(row, dtype=torch.float64) for row in BATCH[name]]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def golden_batch(entropy=None):
    """The batch; the policy before the update is the engine's."""
    mask = padded("loss_mask").bool()
    return BatchLossInputs(
        trainer_logprobs=padded("trainer_logprobs").requires_grad_(),
        inference_logprobs=padded("inference_logprobs"),
        advantages=torch.tensor(BATCH["advantages"], dtype=torch.float64).unsqueeze(1).expand(mask.shape),
        loss_mask=mask,
        old_logprobs=padded("inference_logprobs"),
        ref_logprobs=padded("ref_logprobs"),
        entropy=entropy,
    )


def load(name, options):
    return plugrad.load("loss", f"plugrad_policy.losses.{name}:{name}", **options)


def weights(reduction, mask):
    """The host's w_s: docs/mathematics.md, "The five reductions"."""
    tokens, sequences = mask.sum(1, keepdim=True).double(), len(mask)
    return {
        "token": torch.ones_like(tokens) / tokens.sum(),
        "sequence": 1 / (sequences * tokens),
        "sequence_sum": torch.ones_like(tokens) / sequences,
        "constant": torch.ones_like(tokens) / (sequences * MAX_NEW_TOKENS),
    }[reduction]


@pytest.mark.parametrize("key", OF_SEQUENCES)
@pytest.mark.parametrize("row", [0, 1])
def test_sums_and_gradients_of_sequences_are_prime_rls(key, row, evaluate, close):
    name, options = OF_SEQUENCES[key]
    expected = PEERS[key]["per_sequence"][row]
    inputs = golden_batch()
    sums, gradient = evaluate(load(name, options), inputs)
    close(sums[row], expected["loss"])
    close(gradient[row, : LENGTHS[row]], expected["grad"])


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("key", [key for key in OF_SEQUENCES if "HEAD" in key])
def test_metrics_are_prime_rls(key, row, close):
    name, options = OF_SEQUENCES[key]
    whole = golden_batch()
    one = {n: v[row : row + 1] for n, v in vars(whole).items() if isinstance(v, torch.Tensor)}
    metrics = load(name, options)(BatchLossInputs(**{**vars(whole), **one})).metrics
    expected = {n.removeprefix("ref_kl/"): v for n, v in PEERS[key]["per_sequence"][row]["metrics"].items()}
    for shared in expected.keys() & metrics.keys():
        measured = metrics[shared]
        # prime-rl has 0 for the mean of nothing.
        close(measured.value() if float(measured.count) else 0.0, expected[shared])
    assert {"masked_mismatch_kl", "unmasked_mismatch_kl", "is_masked"} <= expected.keys() & metrics.keys()


@pytest.mark.parametrize("key", OF_THE_SUM)
def test_sums_and_gradients_are_tinkers(key, evaluate, close):
    sums, gradient = evaluate(load(*OF_THE_SUM[key]), golden_batch())
    close(sums.sum(), PEERS[key]["loss_sum"])
    close(torch.cat([gradient[0], gradient[1, :3]]), PEERS[key]["grad"])


@pytest.mark.parametrize("key", OF_OBJECTIVES)
def test_objectives_and_gradients_are_trls(key, close):
    # TRL's entropies are not recorded. These have the mean that is, and the four tokens that its quantile kept at the top.
    entropy = torch.tensor([[0.0, 1.6, 1.3, 0.3, 0.2], [0.4, 1.5, 1.4, 0.0, 0.0]], dtype=torch.float64)
    inputs = golden_batch(entropy)
    mask = inputs.loss_mask
    total = torch.zeros((), dtype=torch.float64)
    for name, options, weight, reduction in OF_OBJECTIVES[key]:
        loss = load(name, options)(inputs).loss
        total = total + weight * (weights(reduction, mask) * torch.where(mask, loss, 0.0)).sum()
    total.backward()
    close(total, PEERS[key]["loss"])
    close(inputs.trainer_logprobs.grad, PEERS[key]["grad"])


@pytest.mark.parametrize("key", OF_TOKENS)
def test_values_of_tokens_are_slimes(key, close):
    loss = load(*OF_TOKENS[key])(golden_batch()).loss
    expected = PEERS[key]["per_token"] if isinstance(PEERS[key], dict) else PEERS[key]
    # slime's rows are not masked, and the first slot does not count here: gspo's mean would be another.
    close(torch.cat([loss[0, 1:], loss[1, :3]]), expected[1:])


@pytest.mark.parametrize("key", ["slime/policy_loss/ppo_eps_0.2_0.28", "slime/policy_loss/dual_clip_c_1.5", "slime/gspo"])
def test_sums_of_sample_means_are_slimes(key):
    loss, inputs = load(*OF_TOKENS[key]), golden_batch()
    per_token = torch.where(inputs.loss_mask, loss(inputs).loss, 0.0)
    found = (per_token.sum(1) / inputs.loss_mask.sum(1)).sum()
    assert found.item() == pytest.approx(PEERS[key]["sum_of_sample_mean"], abs=1e-6)


def test_opsm_masks_what_slime_masks():
    metrics = load("opsm", {"delta": 0.3})(golden_batch()).metrics
    kept = PEERS["slime/opsm/delta_0.3"]["mask"]
    assert kept == [1.0] * 5 + [0.0] * 3
    assert metrics["is_masked"].value() == pytest.approx(3 / 7)


def test_every_row_is_covered_or_has_a_reason():
    covered = OF_SEQUENCES.keys() | OF_THE_SUM.keys() | OF_OBJECTIVES.keys() | OF_TOKENS.keys() | OTHERWISE.keys()
    assert covered <= PEERS.keys()
    rest = PEERS.keys() - covered
    assert not [key for key in rest if not key.startswith(tuple(NOT_COVERED))]
    assert not [prefix for prefix in NOT_COVERED if not any(key.startswith(prefix) for key in rest)]
