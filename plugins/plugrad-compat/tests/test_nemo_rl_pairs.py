"""NeMo RL's losses with LossType.SEQUENCE_LEVEL that mix sequences: of pairs, and of all sequences at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import logsigmoid

import plugrad
from plugrad import ContractError, PluginError
from plugrad.testing import loss_inputs

DPO = {
    "reference_policy_kl_penalty": 0.1,
    "preference_loss_weight": 1.0,
    "sft_loss_weight": 0.0,
    "preference_average_log_probs": False,
    "sft_average_log_probs": False,
}
NEAR = {"rel": 1e-7}
"""NeMo RL's masked_mean adds 1e-8 to the number of pairs."""


@pytest.fixture
def load(target):
    def loaded(name, kind, **options):
        return plugrad.load("loss", f"plugrad-compat/{kind}", target=target("nemo_rl_losses", name), **options)

    return loaded


@pytest.fixture
def pairs():
    """Two pairs of unequal lengths, as a run orders them: by prompt, then by member."""
    return loss_inputs((3, 5, 2, 4), group_ids=torch.tensor([0, 0, 1, 1]), member=torch.tensor([0, 1, 0, 1]))


def sums(values, inputs):
    return (values * inputs.loss_mask).sum(dim=1)


def of_dpo(inputs, beta=0.1, rows=((0, 1), (2, 3))):
    """-log sigmoid(beta (log-ratio of the chosen - log-ratio of the rejected)), the mean over pairs (arXiv:2305.18290)."""
    rewards = sums(inputs.trainer_logprobs - inputs.ref_logprobs, inputs)
    return torch.stack([-logsigmoid(beta * (rewards[one] - rewards[other])) for one, other in rows]).mean()


def test_dpo_is_the_mean_over_pairs(load, pairs):
    loss = load("DPOLossFn", "nemo_rl_pairs", config=DPO)
    assert loss.needs == {"ref_logprobs"}
    assert loss.reduction == "sequence_sum"
    leaf = pairs.trainer_logprobs.clone().requires_grad_()
    outputs = loss(replace(pairs, trainer_logprobs=leaf))
    outputs.loss.mean().backward()
    assert outputs.loss.mean().item() == pytest.approx(of_dpo(pairs).item(), **NEAR)
    expected = pairs.trainer_logprobs.clone().requires_grad_()
    of_dpo(replace(pairs, trainer_logprobs=expected)).backward()
    torch.testing.assert_close(leaf.grad, expected.grad, rtol=1e-7, atol=1e-9)
    assert outputs.metrics["preference_loss"].value() == pytest.approx(of_dpo(pairs).item(), **NEAR)
    assert outputs.metrics["num_valid_samples"].value() == 2


def test_dpo_with_all_of_its_options(load, pairs):
    config = {**DPO, "sft_loss_weight": 0.3, "preference_average_log_probs": True, "sft_average_log_probs": True}
    lengths = pairs.loss_mask.sum(dim=1)
    nll = -(sums(pairs.trainer_logprobs, pairs) / lengths)[::2].mean()
    rewards = sums(pairs.trainer_logprobs - pairs.ref_logprobs, pairs) / lengths
    preference = -logsigmoid(0.1 * (rewards[::2] - rewards[1::2])).mean()
    found = load("DPOLossFn", "nemo_rl_pairs", config=config)(pairs).loss.mean()
    assert found.item() == pytest.approx((preference + 0.3 * nll).item(), **NEAR)


def test_rows_are_paired_by_member_in_any_order(load, pairs):
    order = [3, 0, 2, 1]
    turned = replace(pairs, **{n: v[order] for n, v in vars(pairs).items() if isinstance(v, torch.Tensor)}, metadata=None)
    loss = load("DPOLossFn", "nemo_rl_pairs", config=DPO)
    torch.testing.assert_close(loss(turned).loss, loss(pairs).loss[order])


def test_a_row_without_a_partner_counts_0(load, pairs, caplog):
    alone = replace(pairs, member=torch.tensor([0, 1, 0, 2]))
    outputs = load("DPOLossFn", "nemo_rl_pairs", config=DPO)(alone)
    assert outputs.loss[2:].tolist() == [0, 0]
    assert outputs.loss[:2].sum().item() == pytest.approx(2 * of_dpo(pairs, rows=((0, 1),)).item(), **NEAR)
    assert "2 of 4 sequences have no partner and count 0" in caplog.text
    assert load("DPOLossFn", "nemo_rl_pairs", config=DPO)(replace(pairs, member=torch.zeros(4).long())).loss.sum() == 0


def test_pairs_of_logits_are_told_to_take_log_probs(load, pairs):
    with pytest.raises(PluginError, match=r"takes logits, and nemo_rl_pairs calls it once per update.* next_token_logprobs"):
        load(
            "ClippedPGLossFn", "nemo_rl_pairs", config={"ratio_clip_min": 0.2, "ratio_clip_max": 0.2, "token_level_loss": 0}
        )
    with pytest.raises(ContractError, match="compares the rollouts 0 and 1 of an example: pass group_ids and member"):
        load("DPOLossFn", "nemo_rl_pairs", config=DPO)(replace(pairs, member=None))


def test_the_sequence_loss_of_the_guide(load, pairs):
    kind, config = "nemo_rl_sequence_whole_batch", {"alpha": 2.0, "beta": 0.5}
    with pytest.raises(PluginError, match=r"takes logits, and nemo_rl_sequence_whole_batch .*Let it take log-probs"):
        load("CustomSequenceLoss", kind, config=config)
    with pytest.raises(ContractError, match=r"a mean over its batch, but .*Write kwargs = { divides_by = .sequences."):
        load("CustomSequenceLossOfLogProbs", kind, config=config)(pairs)
    outputs = load("CustomSequenceLossOfLogProbs", kind, config=config, divides_by="sequences")(pairs)
    # Their means count padding and prompts too.
    product = pairs.trainer_logprobs[:, 1:].mean() * pairs.advantages.mean()
    expected = -2.0 * product + 0.5 * (pairs.reward.mean() - pairs.advantages.mean()) ** 2
    assert outputs.loss.mean().item() == pytest.approx(expected.item())
    assert outputs.metrics["mean_reward"].value() == pytest.approx(pairs.reward.mean().item())
