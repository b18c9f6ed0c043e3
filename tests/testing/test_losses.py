"""The check that a loss does not depend on the cut: what it lets through, and what it says of the others."""

import pytest

import plugrad
from plugrad import BatchLossInputs, LossInputs, LossOutputs
from plugrad.registry.scan import scan
from plugrad.testing import check_micro_batches_add_up


@pytest.mark.parametrize("name", [entry.name for entry in scan().of_kind("loss")])
def test_every_installed_loss_passes(name):
    check_micro_batches_add_up(name)


def by_its_own_counts(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(-inputs.trainer_logprobs * inputs.advantages / inputs.loss_mask.sum())


def mean_over_the_rows(inputs: BatchLossInputs) -> LossOutputs:
    sums = (inputs.trainer_logprobs * inputs.advantages * inputs.loss_mask).sum(1)
    return LossOutputs(sums / len(sums))


def centred_advantages(inputs: BatchLossInputs) -> LossOutputs:
    counted = inputs.advantages[inputs.loss_mask]
    return LossOutputs(-inputs.trainer_logprobs * (inputs.advantages - counted.mean()))


def padding_counts(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs((inputs.trainer_logprobs * inputs.loss_mask).mean(1))


@pytest.mark.parametrize("loss", [by_its_own_counts, mean_over_the_rows, centred_advantages, padding_counts])
def test_a_loss_that_looks_at_its_micro_batch_fails_and_is_told_why(loss):
    with pytest.raises(AssertionError, match=rf"'{loss.__name__}'.*cut into micro-batches of .*loss_mask\.sum\(\)"):
        check_micro_batches_add_up(loss)


def test_a_gradient_that_depends_on_the_cut_is_found_where_the_value_does_not():
    def hidden(inputs: BatchLossInputs) -> LossOutputs:
        policy = inputs.trainer_logprobs
        return LossOutputs(-policy.detach() - (policy - policy.detach()) / len(policy))

    with pytest.raises(AssertionError, match="another gradient"):
        check_micro_batches_add_up(hidden)


def test_a_loss_that_says_that_it_depends_on_the_cut_is_believed():
    check_micro_batches_add_up(plugrad.loss(cut_dependent=True)(by_its_own_counts))


def test_one_sequence_may_be_divided_by_its_own_length():
    def mean_of_a_sequence(inputs: LossInputs, scale: float = 1.0) -> LossOutputs:
        counted = inputs.loss_mask
        return LossOutputs(-scale * (inputs.trainer_logprobs * inputs.advantages)[counted].mean())

    check_micro_batches_add_up(mean_of_a_sequence, scale=3.0)
