"""The way back: plugrad's losses and advantages, called as other systems document that they call theirs."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import plugrad
from plugrad import BatchLossInputs, DataError, OptionError, PluginError
from plugrad_compat import export
from plugrad_compat.export.weights import Counts, sequence_weights

LENGTHS = (4, 2, 0)


@pytest.fixture
def batch():
    """Three rows as SkyRL and verl hand them over, the last one without a counted token."""
    draw = torch.Generator().manual_seed(0)
    mask = torch.arange(4) < torch.tensor(LENGTHS).unsqueeze(1)
    own = (-3 * torch.rand(3, 4, generator=draw, dtype=torch.double)).requires_grad_()
    old = own.detach() + 0.3 * torch.rand(3, 4, generator=draw, dtype=torch.double)
    advantages = torch.rand(3, 4, generator=draw, dtype=torch.double) - 0.5
    return SimpleNamespace(own=own, old=old, advantages=advantages, mask=mask.double())


def row_sums(batch, name="ppo_clip", **options):
    inputs = BatchLossInputs(
        trainer_logprobs=batch.own[:2],
        inference_logprobs=batch.old[:2],
        advantages=batch.advantages[:2],
        loss_mask=batch.mask[:2].bool(),
        old_logprobs=batch.old[:2],
    )
    losses = plugrad.load("loss", name, **options)(inputs).loss
    return losses.where(batch.mask[:2].bool(), 0.0).sum(dim=1).detach()


@dataclass
class TheirInputs:
    """prime-rl's, of its later versions."""

    trainer_logprobs: Tensor
    inference_logprobs: Tensor
    ref_logprobs: Tensor | None
    advantages: Tensor
    loss_mask: Tensor
    loss_weights: Tensor | None = None


def of_one_row(batch, **changes):
    given = (batch.own[0], batch.old[0], None, batch.advantages[0], batch.mask[0].bool())
    return TheirInputs(*given, **changes)


class TestPrimeRl:
    def test_the_sum_over_a_sequence(self, batch):
        outputs = export.prime_rl_loss(of_one_row(batch), name="ppo_clip", clip_eps=0.1)
        assert outputs.loss.item() == pytest.approx(row_sums(batch, clip_eps=0.1)[0].item())
        assert all(isinstance(value, Tensor) and value.ndim == 0 for value in outputs.metrics.values())

    def test_its_loss_weights_weigh_tokens(self, batch):
        weights = torch.tensor([1.0, 0.0, 0.0, 0.0]).double()
        one = export.prime_rl_loss(of_one_row(batch, loss_weights=weights), name="ppo_clip")
        two = export.prime_rl_loss(of_one_row(batch, loss_weights=2 * weights), name="ppo_clip")
        assert two.loss.item() == pytest.approx(2 * one.loss.item())
        one.loss.backward()
        assert batch.own.grad[0, 1:].abs().sum() == 0

    def test_its_reference_is_a_teacher_too(self, batch):
        inputs = of_one_row(batch)
        inputs.ref_logprobs = batch.old[0] - 1.0
        by_reference = export.prime_rl_loss(inputs, name="plugrad-policy/reference_kl")
        by_teacher = export.prime_rl_loss(inputs, name="plugrad-policy/reference_kl", towards="teacher")
        assert by_reference.loss.item() == pytest.approx(by_teacher.loss.item())

    def test_a_sequence_without_a_counted_token_adds_nothing(self, batch):
        inputs = of_one_row(batch)
        inputs.loss_mask = torch.zeros(4, dtype=torch.bool)
        outputs = export.prime_rl_loss(inputs, name="gspo")
        outputs.loss.backward()
        assert outputs.loss.item() == 0

    def test_an_advantage(self):
        inputs = SimpleNamespace(rewards=torch.tensor([[1.0, 0.0, 0.0]]), completion_lengths=torch.tensor([[1, 2, 3]]))
        found = export.prime_rl_advantage(inputs, name="rloo").advantages
        assert found.tolist() == [pytest.approx([1.0, -0.5, -0.5])]
        of_rollouts = SimpleNamespace(rollouts=[[{"reward": 1.0}, {"reward": 0.0}]])
        assert export.prime_rl_advantage(of_rollouts, name="group_mean").advantages.tolist() == [[0.5, -0.5]]


class TestSkyrl:
    @pytest.mark.parametrize(
        ("reduction", "wanted"),
        [
            ("token_mean", lambda sums: sums.sum() / 6),
            ("sequence_mean", lambda sums: (sums[0] / 4 + sums[1] / 2) / 3),
            ("seq_mean_token_sum_norm", lambda sums: sums.sum() / 3 / 128),
        ],
    )
    def test_it_is_reduced_as_skyrl_reduces(self, batch, reduction, wanted):
        config = SimpleNamespace(loss_reduction=reduction, max_seq_len=128)
        function = export.skyrl_policy_loss("ppo_clip", clip_eps=0.1)
        loss, metrics = function(batch.own, batch.old, batch.advantages, config=config, loss_mask=batch.mask)
        assert loss.item() == pytest.approx(wanted(row_sums(batch, clip_eps=0.1)).item())
        assert 0 <= metrics["clip_fraction"] <= 1

    @pytest.mark.parametrize("returns", ["sum", None])
    def test_a_sum_for_versions_that_divide_the_advantages(self, batch, returns, monkeypatch):
        if returns is None:
            later = SimpleNamespace(apply_loss_reduction_to_advantages_minibatch=None)
            monkeypatch.setitem(sys.modules, "skyrl.backends.skyrl_train.utils.ppo_utils", later)
        function = export.skyrl_policy_loss("ppo_clip", returns=returns)
        loss, _ = function(batch.own, batch.old, batch.advantages, config=None, loss_mask=batch.mask)
        assert loss.item() == pytest.approx(row_sums(batch).sum().item())

    def test_the_engines_log_probs_arrive(self, batch):
        function = export.skyrl_policy_loss("importance_sampling")
        found = [
            function(batch.own, batch.old, batch.advantages, None, batch.mask, rollout_logprobs=batch.old + shift)[0].item()
            for shift in (0.0, 0.2)
        ]
        assert found[0] != pytest.approx(found[1])

    def test_it_goes_to_other_processes_and_through_its_own_adapter(self, batch, written):
        function = pickle.loads(pickle.dumps(export.skyrl_policy_loss("gspo", clip_high=0.1)))
        assert function == export.skyrl_policy_loss("gspo", clip_high=0.1)
        path = written(
            """
            from plugrad_compat.export import skyrl_policy_loss
            from plugrad_compat.skyrl import register_policy_loss

            register_policy_loss("plugrad_clip", skyrl_policy_loss("ppo_clip"))
            """
        )
        there_and_back = plugrad.load("loss", "plugrad-compat/skyrl", target=f"{path}:plugrad_clip")
        inputs = BatchLossInputs(
            trainer_logprobs=batch.own[:2],
            inference_logprobs=batch.old[:2],
            advantages=batch.advantages[:2],
            loss_mask=batch.mask[:2].bool(),
            old_logprobs=batch.old[:2],
        )
        torch.testing.assert_close(there_and_back(inputs).loss.detach(), row_sums(batch))


MODES = {
    "token-mean": lambda sums: sums.sum() / 6,
    "seq-mean-token-sum": lambda sums: sums.sum() / 2,
    "seq-mean-token-mean": lambda sums: (sums[0] / 4 + sums[1] / 2) / 2,
}


class TestVerl:
    @pytest.mark.parametrize("mode", MODES)
    def test_it_is_aggregated_as_verl_aggregates(self, batch, mode):
        function = export.verl_policy_loss("ppo_clip")
        loss, metrics = function(batch.old, batch.own, batch.advantages, batch.mask, mode, None, None)
        assert loss.item() == pytest.approx(MODES[mode](row_sums(batch)).item())
        assert metrics.keys() == {"actor/clip_fraction", "actor/ratio"}

    def test_weights_of_tokens_need_a_loss_of_tokens(self, batch, written):
        path = written(
            """
            from plugrad import LossInputs, LossOutputs

            def of_sequences(inputs: LossInputs) -> LossOutputs:
                return LossOutputs(inputs.trainer_logprobs[inputs.loss_mask].sum() ** 2)
            """
        )
        function = export.verl_policy_loss(f"{path}:of_sequences")
        with pytest.raises(PluginError, match="is one of whole sequences, and verl's rollout_is_weights weigh tokens"):
            function(batch.old, batch.own, batch.advantages, batch.mask, "token-mean", None, batch.mask)

    def test_an_advantage_for_rows_in_any_order(self):
        rewards = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.5, 0.0]])
        mask = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
        advantages, returns = export.verl_advantage("group_mean")(rewards, mask, ["b", "a", "b", "a"], epsilon=1e-6)
        assert advantages.tolist() == [[0.5, 0.5], [-0.25, -0.25], [-0.5, -0.5], [0.25, 0.0]]
        assert returns is advantages

    def test_groups_of_unequal_size(self):
        with pytest.raises(DataError, match=r"the groups of the batch have \[1, 2\] rollouts"):
            export.skyrl_advantage("rloo")(torch.zeros(3, 2), torch.ones(3, 2), ["a", "a", "b"])


class TestNemoRl:
    @pytest.fixture
    def data(self):
        draw = torch.Generator().manual_seed(1)
        ids = torch.randint(0, 11, (3, 6), generator=draw)
        mask = torch.zeros(3, 6)
        mask[0, 2:], mask[1, 2:4], mask[2, 1:] = 1.0, 1.0, 1.0
        zeros = torch.zeros(3, 6, dtype=torch.double)
        return {
            "input_ids": ids,
            "token_mask": mask,
            "sample_mask": torch.tensor([1.0, 1.0, 0.0]),
            "advantages": torch.rand(3, 6, generator=draw, dtype=torch.double),
            "prev_logprobs": zeros - 2.0,
            "generation_logprobs": zeros - 2.1,
            "reference_policy_logprobs": zeros - 1.9,
            "rewards": torch.ones(3),
        }

    @pytest.fixture
    def logits(self):
        draw = torch.Generator().manual_seed(2)
        return torch.randn(3, 6, 11, generator=draw, dtype=torch.double).requires_grad_()

    def test_its_log_probs_are_those_of_the_next_token(self, data, logits):
        function = export.nemo_rl_loss("reinforce")
        loss, metrics = function(logits, data, torch.tensor(2.0), torch.tensor(6.0))
        logprobs = logits[:, :-1].log_softmax(-1).gather(-1, data["input_ids"][:, 1:, None]).squeeze(-1)
        mask = data["token_mask"][:, 1:] * data["sample_mask"][:, None]
        wanted = -(logprobs * data["advantages"][:, 1:] * mask).sum() / 6
        assert loss.item() == pytest.approx(wanted.item())
        assert all(isinstance(value, float) for value in metrics.values())
        assert metrics["num_valid_samples"] == 2

    @pytest.mark.parametrize("name", ["ppo_clip", "gspo", "entropy_bonus", "kl_to_reference", "dr_grpo"])
    def test_micro_batches_add_up(self, data, logits, name):
        function = export.nemo_rl_loss(name, **({"reduction": "sequence_sum"} if name == "dr_grpo" else {}))
        whole, metrics = function(logits, data, torch.tensor(2.0), torch.tensor(6.0))
        parts = [
            function(logits[rows], {k: v[rows] for k, v in data.items()}, torch.tensor(2.0), torch.tensor(6.0))
            for rows in (slice(0, 1), slice(1, 3))
        ]
        torch.testing.assert_close(sum(loss for loss, _ in parts), whole)
        for key in set(metrics) - {"loss"}:
            assert sum(found.get(key, 0.0) for _, found in parts) == pytest.approx(metrics[key], rel=1e-6)

    def test_its_level_follows_from_the_reduction(self):
        levels = {name: export.nemo_rl_loss(name).loss_type.value for name in ("ppo_clip", "gspo")}
        assert levels == {"ppo_clip": "token_level", "gspo": "sequence_level"}
        with pytest.raises(PluginError, match="'dr_grpo' has the reduction 'constant', and NeMo RL divides by tokens or"):
            export.nemo_rl_loss("dr_grpo")

    def test_its_later_versions_hand_out_log_probs_or_logits_by_name(self, data, logits):
        logprobs = logits[:, :-1].log_softmax(-1).gather(-1, data["input_ids"][:, 1:, None]).squeeze(-1)
        counts = {"global_valid_seqs": torch.tensor(2.0), "global_valid_toks": torch.tensor(6.0)}
        for name, kind in (("ppo_clip", "logprob"), ("gspo", "logprob"), ("entropy_bonus", "logit")):
            function = pickle.loads(pickle.dumps(export.nemo_rl_loss(name)))
            assert function.input_type.value == kind
            given = {"next_token_logprobs": logprobs} if kind == "logprob" else {"logits": logits}
            found, metrics = function(data=data, **counts, **given)
            wanted, expected = function(logits, data, *counts.values())
            torch.testing.assert_close(found, wanted)
            assert metrics == pytest.approx(expected)

    def test_it_runs_through_its_own_adapter(self, batch, written):
        path = written("from plugrad_compat.export import nemo_rl_loss\nclip = nemo_rl_loss('ppo_clip', clip_eps=0.1)\n")
        loss = plugrad.load("loss", "plugrad-compat/nemo_rl", target=f"{path}:clip")
        assert loss.needs == {"old_logprobs"}
        inputs = BatchLossInputs(
            trainer_logprobs=batch.own[:2],
            inference_logprobs=batch.old[:2],
            advantages=batch.advantages[:2],
            loss_mask=batch.mask[:2].bool(),
            old_logprobs=batch.old[:2],
        )
        # A first token is scored by nothing, there.
        inputs = replace(inputs, loss_mask=inputs.loss_mask & (torch.arange(4) > 0))
        direct = plugrad.load("loss", "ppo_clip", clip_eps=0.1)(inputs).loss.where(inputs.loss_mask, 0.0).sum(dim=1)
        torch.testing.assert_close(loss(inputs).loss, direct)


@pytest.mark.parametrize(
    ("make", "error", "complaint"),
    [
        (
            lambda b: export.skyrl_policy_loss("entropy_bonus"),
            PluginError,
            "needs entropy, which SkyRL does not give a loss",
        ),
        (lambda b: export.verl_policy_loss("kl_to_reference"), PluginError, "needs ref_logprobs, which verl does not give"),
        (lambda b: export.skyrl_policy_loss("gpso"), PluginError, "no loss is called 'gpso'. Did you mean 'gspo'"),
        (lambda b: export.skyrl_policy_loss("ppo_clip", clip=0.1), OptionError, "has no option 'clip'"),
    ],
)
def test_what_cannot_be_is_said_at_the_first_call(make, error, complaint, batch):
    with pytest.raises(error, match=complaint):
        make(batch)(batch.own, batch.old, batch.advantages, batch.mask)


def test_the_weights_are_those_of_the_host():
    lengths, group_lengths = torch.tensor([4, 2, 0, 3]), torch.tensor([6.0, 6.0, 3.0, 3.0])
    counts = Counts(tokens=9, sequences=4, groups=2, max_new_tokens=8)
    wanted = {
        "token": [1 / 9, 1 / 9, 0, 1 / 9],
        "sequence": [1 / 16, 1 / 8, 0, 1 / 12],
        "sequence_sum": [1 / 4, 1 / 4, 0, 1 / 4],
        "constant": [1 / 32, 1 / 32, 0, 1 / 32],
        "group": [1 / 12, 1 / 12, 0, 1 / 6],
    }
    for reduction, weights in wanted.items():
        assert sequence_weights(reduction, lengths, group_lengths, counts).tolist() == pytest.approx(weights)
