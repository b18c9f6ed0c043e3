"""Each loss of NeMo RL's guide: it runs with its import changed and gives its formula's value, or is told what to write."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import plugrad
from plugrad import ContractError, OptionError, PluginError
from plugrad.testing import loss_inputs

LENGTHS = (3, 5, 2)


@pytest.fixture
def load(target):
    def loaded(name, kind="nemo_rl_forward", **options):
        return plugrad.load("loss", f"plugrad-compat/{kind}", target=target("nemo_rl_guide", name), **options)

    return loaded


@pytest.fixture
def whole(load):
    return lambda name, **options: load(name, "nemo_rl_forward_whole_batch", **options)


@pytest.fixture
def batch():
    examples = [{"labels": 4, "task_ids": 1}, {"labels": 4, "task_ids": 2}, {"labels": 9, "task_ids": 2}]
    made = loss_inputs(LENGTHS, metadata=examples, reward=torch.tensor([0.5, 0.0, 1.0]).double())
    return replace(made, teacher_logits=made.logits.detach().roll(1, dims=2))


def rows(inputs):
    return [
        (inputs.logits[i][m], inputs.input_ids[i][m], inputs.teacher_logits[i][m]) for i, m in enumerate(inputs.loss_mask)
    ]


def by_token(loss, inputs):
    """Return the update's objective: the sum over sequences, divided by all tokens."""
    return loss(inputs).loss.sum() / inputs.loss_mask.sum()


def test_the_contrastive_loss_is_that_of_the_whole_batch(whole, batch):
    loss = whole("ContrastiveLoss", config={"margin": 3.0})
    assert loss.needs == {"embedding"}
    outputs = loss(batch)
    one, two, three = batch.embedding
    negative = [F.relu(3 - (row - three).norm()) ** 2 for row in (one, two)]
    expected = (one - two).square().sum() + sum(negative) / 2
    # The objective is the mean over the sequences.
    assert outputs.loss.mean().item() == pytest.approx(expected.item())
    assert outputs.metrics["positive_loss"].value() == pytest.approx((one - two).square().sum().item())


def test_a_batch_without_positives_counts_nothing(whole, batch, caplog):
    alone = replace(batch, metadata=[{"labels": row} for row in range(3)])
    assert whole("ContrastiveLoss")(alone).loss.tolist() == [0, 0, 0]
    assert "returned NaN for a batch of 3 sequences, as a mean over nothing does" in caplog.text


def test_labels_may_be_another_column_or_field(whole, batch):
    named = replace(batch, metadata=[{"kind": label} for label in (4, 4, 9)])
    expected = whole("ContrastiveLoss")(batch).loss
    torch.testing.assert_close(whole("ContrastiveLoss", arguments={"labels": "kind"})(named).loss, expected)
    grouped = replace(batch, group_ids=torch.tensor([4, 4, 9]))
    torch.testing.assert_close(whole("ContrastiveLoss", arguments={"labels": "group_ids"})(grouped).loss, expected)


def test_distillation_is_a_mean_over_all_tokens(load, batch):
    loss = load("KLDivergenceLoss", config={"temperature": 2.0, "alpha": 0.25})
    assert loss.needs == {"logits", "teacher_logits", "input_ids"}
    logits, ids, teacher = (torch.cat(parts) for parts in zip(*rows(batch), strict=True))
    own, theirs = (x.div(2).log_softmax(-1) for x in (logits, teacher))
    kl = (theirs.exp() * (theirs - own)).sum(-1).mean()
    assert by_token(loss, batch).item() == pytest.approx((0.25 * F.cross_entropy(logits, ids) + 0.75 * 4 * kl).item())


@pytest.mark.parametrize("cut", [[0, 1, 2], [0, 1], [0]])
def test_no_cut_changes_it(cut, load, batch):
    loss = load("KLDivergenceLoss")
    parts = [replace(batch, **{n: v[i : i + 1] for n, v in vars(batch).items() if isinstance(v, torch.Tensor)}) for i in cut]
    alone = torch.cat([loss(replace(p, metadata=[batch.metadata[i]])).loss for i, p in zip(cut, parts, strict=True)])
    torch.testing.assert_close(loss(batch).loss[cut], alone)


def test_losses_are_combined_and_focal(load, batch):
    made = [{"name": "cross_entropy", "params": {"weight": 2.0}}, {"name": "focal", "params": {"gamma": 1.5, "alpha": 0.5}}]
    loss = load("CombinedLoss", config={"loss_functions": made, "loss_weights": [0.5, 3.0]})
    minus_log = -batch.trainer_logprobs[batch.loss_mask]
    focal = 0.5 * (1 - (-minus_log).exp()) ** 1.5 * minus_log
    assert by_token(loss, batch).item() == pytest.approx((minus_log + 3 * focal).mean().item())
    assert "FocalLoss_loss" in loss(batch).metrics


def test_reward_shaping_is_refused_twice_and_then_runs(load, batch):
    told = (
        r"draws random numbers.*Take the argument `actions`, the sampled tokens.*log_probs.gather\(1, actions.unsqueeze\(1\)"
    )
    with pytest.raises(ContractError, match=told):
        load("RewardShapingLoss")(batch)
    with pytest.raises(
        ContractError, match=r"no attribute 'entropy'. A tensor has no entropy\(\). Write -\(probs \* log_probs"
    ):
        load("RewardShapingOfSampledTokens")(batch)
    loss = load("RewardShapingThatRuns")
    assert loss.needs == {"logits", "values", "reward", "input_ids"}
    mask = batch.loss_mask
    advantages, values = batch.advantages[mask], batch.values[mask]
    rewards = batch.reward.repeat_interleave(mask.sum(1))
    entropy = -(batch.logits[mask].softmax(-1) * batch.logits[mask].log_softmax(-1)).sum(-1).mean()
    policy = -(batch.trainer_logprobs[mask] * advantages).mean()
    expected = (
        policy + 0.5 * (values - rewards).square().mean() - 0.01 * entropy + 0.1 * (entropy + advantages.relu().mean())
    )
    assert by_token(loss, batch).item() == pytest.approx(expected.item())


def test_tasks_of_logits_are_told_to_be_tables(load, batch):
    told = (
        r"mixes sequences.*takes 'predictions', and the logits of all sequences never exist at once. "
        r"If it treats the values of 'task_ids' apart, write a \[\[loss\]\] table for each, with where = { task_ids = 0 }"
    )
    with pytest.raises(ContractError, match=told):
        load("TasksOfClasses")(batch)
    first = load("TasksOfClasses", arguments={"task_ids": 0})
    minus_log = -batch.trainer_logprobs[batch.loss_mask].mean()
    assert by_token(first, batch).item() == pytest.approx(minus_log.item())


def test_tasks_of_values_run(whole, batch):
    names = {"predictions": "values", "targets": "returns"}
    loss = whole("MultiTaskLoss", arguments=names, config={"uncertainty_weighting": True})
    assert loss.needs == {"values", "returns"}
    mask, expected = batch.loss_mask, 0.0
    for task in ([0], [1, 2]):
        found, wanted = batch.values[task][mask[task]], batch.returns[task][mask[task]]
        spread = found.var()
        expected += (found - wanted).square().mean() / spread**2 + spread.log()
    outputs = loss(batch)
    assert outputs.loss.mean().item() == pytest.approx(expected.item())
    assert outputs.metrics.keys() == {"task_1_loss", "task_2_loss"}


def test_an_adversary_gets_no_model(load, batch):
    told = r"asks for 'model', which plugrad hands to no loss. A call of .*needs=\{.again.\}, passes=2.*inputs.sensitivity"
    with pytest.raises(PluginError, match=told):
        load("AdversarialLoss")
    with pytest.raises(ContractError, match=r"nothing in forward may differentiate.*needs=\{.again.\}"):
        load("AttackedLogits")(batch)


def test_a_sum_is_told_its_divisor(whole, batch):
    named = {"arguments": {"targets": "labels"}}
    with pytest.raises(ContractError, match=r'a sum over its sequences.*Write kwargs = { divides_by = "nothing"'):
        whole("Regression", **named)(batch)
    outputs = whole("Regression", **named, divides_by="nothing")(batch)
    expected = (batch.embedding.mean(1) - torch.tensor([4, 4, 9])).square().sum()
    assert outputs.loss.sum().item() == pytest.approx(expected.item())


def test_the_wrong_name_is_told_the_right_one(load, whole, target):
    with pytest.raises(
        PluginError, match=r'sees whole sequences and no tokens. Select name = "nemo_rl_forward_whole_batch"'
    ):
        _ = load("ContrastiveLoss").needs
    with pytest.raises(PluginError, match=r"'student_logits', and the logits of a whole batch never"):
        whole("KLDivergenceLoss")
    with pytest.raises(PluginError, match=r'is a BaseLossFunction.* Select name = "nemo_rl_forward" if it takes logits'):
        load("KLDivergenceLoss", "nemo_rl")
    with pytest.raises(PluginError, match=r'has no forward.* with name = "nemo_rl" or "nemo_rl_sequence"'):
        plugrad.load("loss", "plugrad-compat/nemo_rl_forward", target=target("nemo_rl_losses", "NLLLoss"))


def test_wrong_arguments_and_columns_are_told(whole, batch, written):
    with pytest.raises(
        OptionError, match=r"arguments.label: forward of .* has no such parameter. It takes embeddings, targets"
    ):
        whole("Regression", arguments={"label": "kind"})
    with pytest.raises(ContractError, match=r"the example has no column 'targets'. It has labels, task_ids. Name another"):
        whole("Regression")(batch)
    named = replace(batch, metadata=[{"labels": "cat"}] * 3)
    with pytest.raises(ContractError, match=r"the column 'labels' holds 'cat': a loss computes with numbers"):
        whole("ContrastiveLoss")(named)
    with pytest.raises(ContractError, match=r"the column 'labels' holds None"):
        whole("ContrastiveLoss")(replace(batch, metadata=[{"labels": None}] * 3))
    for listed in ([1, 2], [[1], [2]]):
        with pytest.raises(ContractError, match=r"the column 'labels' holds \[.*numbers, one per example") as raised:
            whole("ContrastiveLoss")(replace(batch, metadata=[{"labels": listed}] * 3))
        assert raised.value.__cause__ is None
    path = written(
        """
        from plugrad_compat.nemo_rl import BaseLossFunction

        class Both(BaseLossFunction):
            def forward(self, embeddings, logits): ...

        class Nothing(BaseLossFunction):
            def forward(self, labels, **kwargs): ...

        class Unknown(BaseLossFunction):
            def forward(self, embeddings, depth): ...
        """
    )
    for name, told in (
        ("Nothing", "takes nothing that a model computes, such as embeddings, hidden_states, logits"),
        ("Both", "one per sequence, and 'logits', one per token"),
        ("Unknown", "asks for 'depth'. plugrad knows"),
    ):
        with pytest.raises(PluginError, match=told):
            plugrad.load("loss", "plugrad-compat/nemo_rl_forward", target=f"{path}:{name}")
