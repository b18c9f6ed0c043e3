"""Core's losses and advantages against the values that other systems return on the same batch, to 1e-6."""

import json
from pathlib import Path

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, BatchLossInputs, LossInputs
from plugrad.host.loss import sum_rows
from plugrad.policy.reductions import Counts, count_rows, row_weights

# The one copy: plugrad-policy's source distribution carries its tests, and core's carries none.
GOLDEN = Path(__file__).parents[2] / "plugins" / "plugrad-policy" / "tests" / "golden"
PEERS = json.loads((GOLDEN / "peers.json").read_text())
BATCH = PEERS["batch"]
LENGTHS = [5, 3]
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def sequence(row, *, teacher=False):
    """One sequence of the golden batch; the trainer's log-probs are a leaf."""
    ref = tensor(BATCH["ref_logprobs"][row])
    return LossInputs(
        trainer_logprobs=tensor(BATCH["trainer_logprobs"][row]).requires_grad_(),
        inference_logprobs=tensor(BATCH["inference_logprobs"][row]),
        teacher_logprobs=ref if teacher else None,
        advantages=torch.full((LENGTHS[row],), BATCH["advantages"][row], dtype=torch.float64),
        loss_mask=torch.tensor(BATCH["loss_mask"][row], dtype=torch.bool),
        old_logprobs=tensor(BATCH["inference_logprobs"][row]),
        ref_logprobs=ref,
    )


def padded(name, filler=0.0):
    rows = BATCH[name]
    return torch.nn.utils.rnn.pad_sequence([tensor(row) for row in rows], batch_first=True, padding_value=filler)


def batch(entropy=None):
    """The whole golden batch, padded, with the log-probs before the update equal to the engine's."""
    mask = padded("loss_mask").bool()
    return BatchLossInputs(
        trainer_logprobs=padded("trainer_logprobs").requires_grad_(),
        inference_logprobs=padded("inference_logprobs"),
        advantages=tensor(BATCH["advantages"]).unsqueeze(1).expand(mask.shape),
        loss_mask=mask,
        old_logprobs=padded("inference_logprobs"),
        ref_logprobs=padded("ref_logprobs"),
        entropy=None if entropy is None else torch.full(mask.shape, entropy, dtype=torch.float64),
    )


def objective(inputs, terms, max_new_tokens=1):
    """The objective of section "One denominator" for (loss, weight, reduction) terms."""
    tokens = inputs.loss_mask.sum(1).tolist()
    counts = Counts(sum(tokens), len(tokens), len(tokens), max_new_tokens)
    rows = count_rows(tokens, [(group, 0) for group in range(len(tokens))])
    return sum(
        weight * (row_weights(reduction, rows, counts) * sum_rows(loss(inputs), inputs.loss_mask)).sum()
        for loss, weight, reduction in terms
    )


def close(found, expected):
    torch.testing.assert_close(torch.as_tensor(found, dtype=torch.float64), tensor(expected), **TOLERANCE)


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("defaults", {}),
        ("kl_tau_0.1", {"kl_tau": 0.1}),
        ("ratio_type_sequence", {"ratio_type": "sequence"}),
        ("teacher_tau_0.5_kl_tau_0.1", {"teacher_tau": 0.5, "kl_tau": 0.1}),
        ("sequence_mask_low_0.1", {"sequence_mask_low": 0.1}),
        ("geo_mask_low_0.7", {"geo_mask_low": 0.7}),
    ],
)
@pytest.mark.parametrize("row", [0, 1])
def test_importance_sampling_is_prime_rls_default_loss(key, options, row):
    expected = PEERS[f"prime_rl/seed_f870f3cbd/default_loss_fn/{key}"]["per_sequence"][row]
    inputs = sequence(row, teacher=True)
    outputs = plugrad.load("loss", "importance_sampling", **options)(inputs)
    outputs.loss.backward()
    close(outputs.loss.detach(), expected["loss"])
    close(inputs.trainer_logprobs.grad, expected["grad"])
    for name in ("mismatch_kl", "masked_mismatch_kl", "unmasked_mismatch_kl"):
        measured = outputs.metrics[name]
        close(measured.value() if float(measured.count) else 0.0, expected["metrics"][name])
    close(outputs.metrics["is_masked"].value(), sum(expected["metrics"]["is_masked"]) / LENGTHS_COUNTED[row])


LENGTHS_COUNTED = [sum(mask) for mask in BATCH["loss_mask"]]


def test_importance_sampling_has_the_gradient_of_tinkers_where_nothing_is_masked():
    expected = PEERS["tinker/importance_sampling"]["grad"]
    wide = {"token_mask_low": 0.0, "token_mask_high": 1e9, "geo_mask_low": 0.0, "geo_mask_high": 1e9}
    grads = []
    for row in (0, 1):
        inputs = sequence(row)
        plugrad.load("loss", "importance_sampling", **wide)(inputs).loss.backward()
        grads.append(inputs.trainer_logprobs.grad)
    close(torch.cat(grads), expected)


@pytest.mark.parametrize("row", [0, 1])
def test_cross_entropy_is_prime_rls(row):
    expected = PEERS["prime_rl/HEAD/ce_loss_fn"]["per_sequence"][row]
    inputs = sequence(row)
    outputs = plugrad.load("loss", "cross_entropy")(inputs)
    outputs.loss.backward()
    close(outputs.loss.detach(), expected["loss"])
    close(inputs.trainer_logprobs.grad, expected["grad"])
    close(outputs.metrics["nll"].value(), expected["metrics"]["nll"])


@pytest.mark.parametrize("row", [0, 1])
def test_ppo_clip_is_the_loss_that_prime_rl_documents(row):
    expected = PEERS["prime_rl/seed_doc/ppo_clip_loss/clip_eps_0.2"]["per_sequence"][row]
    inputs = sequence(row)
    loss = plugrad.load("loss", "ppo_clip")(inputs).loss
    loss.backward()
    close(loss.detach(), expected["loss"])
    close(inputs.trainer_logprobs.grad, expected["grad"])


def test_ppo_clip_is_tinkers():
    expected = PEERS["tinker/ppo(0.8,1.2)"]
    inputs = [sequence(0), sequence(1)]
    losses = [plugrad.load("loss", "ppo_clip")(each).loss for each in inputs]
    sum(losses).backward()
    close(sum(losses).detach(), expected["loss_sum"])
    close(torch.cat([each.trainer_logprobs.grad for each in inputs]), expected["grad"])


def test_ppo_clip_with_two_ranges_is_slimes_token_by_token():
    expected = PEERS["slime/policy_loss/ppo_eps_0.2_0.28"]
    inputs = batch()
    per_token = plugrad.load("loss", "ppo_clip", clip_eps=0.2, clip_eps_high=0.28)(inputs).loss
    # slime's rows are not masked: compare the slots that count.
    close(torch.cat([per_token[0, 1:5], per_token[1, :3]]).detach(), expected["per_token"][1:])


PPO = ("ppo_clip", {}, 1.0)


@pytest.mark.parametrize(
    ("key", "terms", "max_new_tokens"),
    [
        ("trl/dapo/token", [(*PPO, "token")], 1),
        ("trl/bnpo/token", [(*PPO, "token")], 1),
        ("trl/grpo/token", [(*PPO, "sequence")], 1),
        ("trl/dr_grpo/token", [(*PPO, "constant")], 8),
        ("trl/dapo/token/eps_high_0.28", [("ppo_clip", {"clip_eps_high": 0.28}, 1.0, "token")], 1),
        ("trl/dapo/token/beta_0.04", [(*PPO, "token"), ("kl_to_reference", {}, 0.04, "token")], 1),
    ],
)
def test_objectives_are_trls(key, terms, max_new_tokens):
    expected = PEERS[key]
    inputs = batch()
    losses = [(plugrad.load("loss", name, **options), weight, reduction) for name, options, weight, reduction in terms]
    total = objective(inputs, losses, max_new_tokens)
    total.backward()
    close(total.detach(), expected["loss"])
    close(inputs.trainer_logprobs.grad, expected["grad"])


def test_an_entropy_bonus_is_trls_entropy_coefficient():
    expected = PEERS["trl/grpo/token/entropy_coef_0.01"]
    inputs = batch(entropy=expected["metrics"]["entropy"])
    terms = [(plugrad.load("loss", "ppo_clip"), 1.0, "sequence"), (plugrad.load("loss", "entropy_bonus"), 0.01, "token")]
    total = objective(inputs, terms)
    total.backward()
    close(total.detach(), expected["loss"])
    close(inputs.trainer_logprobs.grad, expected["grad"])


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_kl_to_reference_is_slimes_token_by_token(estimator):
    expected = PEERS[f"slime/approx_kl/{estimator}"]
    found = plugrad.load("loss", "kl_to_reference", estimator=estimator)(batch()).loss.detach()
    close(torch.cat([found[0], found[1, :3]]), expected)


@pytest.mark.parametrize(
    ("key", "name", "options"),
    [
        ("prime_rl/seed_f870f3cbd/default_advantage_fn/length_weighted_mean=False", "group_mean", {}),
        ("trl/advantages/none", "group_mean", {}),
        ("trl/advantages/group", "group_normalized", {"eps": 1e-4}),
        ("slime/advantages/grpo_std", "group_normalized", {}),
    ],
)
def test_advantages_are_those_of(key, name, options):
    given = PEERS["advantage_batch"]
    inputs = AdvantageInputs(rewards=tensor(given["rewards"]), completion_lengths=torch.tensor(given["completion_lengths"]))
    close(plugrad.load("advantage", name, **options)(inputs).advantages, PEERS[key])
