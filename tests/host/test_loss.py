"""Calling a loss: its own view in, one loss per row or token out."""

import pytest
import torch

from plugrad import BatchLossInputs, ContractError, DataError, LossOutputs, TeacherDivergence, loss
from plugrad.contracts.needs import LOSS_NEEDS
from plugrad.host.loss import compute_loss, keep_rows, sum_rows


def by_row(inputs: BatchLossInputs):
    return LossOutputs((inputs.trainer_logprobs * inputs.loss_mask).sum(dim=1))


def by_token(inputs: BatchLossInputs):
    return LossOutputs(inputs.trainer_logprobs)


def test_a_batch_loss_is_per_row_or_per_token(bound_loss, batch):
    inputs = batch()
    expected = torch.stack([row[mask].sum() for row, mask in zip(inputs.trainer_logprobs, inputs.loss_mask, strict=True)])
    for function in (by_row, by_token):
        outputs = compute_loss(bound_loss(function), inputs)
        torch.testing.assert_close(sum_rows(outputs, inputs.loss_mask), expected)


def test_a_scalar_of_a_batch_is_refused(bound_loss, batch):
    def averaged(inputs: BatchLossInputs):
        return LossOutputs(inputs.trainer_logprobs.mean())

    with pytest.raises(
        ContractError, match=r"'averaged' \(mine\) takes BatchLossInputs and returned a scalar. The denominator"
    ):
        compute_loss(bound_loss(averaged), batch())


@pytest.mark.parametrize("shape", [(5,), (3, 4), (3, 1), (5, 3), (1, 3, 5)])
def test_another_shape_is_refused(bound_loss, batch, shape):
    def misshapen(inputs: BatchLossInputs):
        return LossOutputs(torch.zeros(shape))

    with pytest.raises(ContractError) as caught:
        compute_loss(bound_loss(misshapen), batch())
    assert f"returned a loss of shape {shape}; for this micro-batch it must be [3, 5] (per token) or [3]" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (None, "NoneType"),
        (torch.zeros(3), "Tensor"),
        (LossOutputs(None), r"LossOutputs\(loss=NoneType\)"),
        ({"loss": 1}, "dict"),
    ],
)
def test_what_is_no_loss_is_refused(bound_loss, batch, returned, found):
    def wrong(inputs: BatchLossInputs):
        return returned

    with pytest.raises(
        ContractError, match=rf"the loss 'wrong' \(mine\) returned {found}; a loss returns plugrad\.LossOutp"
    ):
        compute_loss(bound_loss(wrong), batch())


def test_metrics_of_a_batch_that_are_no_mapping_are_refused(bound_loss, batch):
    def wrong(inputs: BatchLossInputs):
        return LossOutputs(inputs.trainer_logprobs, None)

    with pytest.raises(ContractError, match=r"the loss 'wrong' \(mine\) returned metrics of type NoneType"):
        compute_loss(bound_loss(wrong), batch())


def test_what_a_loss_raises_is_reported_as_its_own(bound_loss, batch):
    def failing(inputs: BatchLossInputs):
        raise KeyError("clip")

    with pytest.raises(ContractError, match=r"the loss 'failing' \(mine\) raised KeyError: 'clip'") as caught:
        compute_loss(bound_loss(failing), batch())
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_error_that_a_loss_raises_on_purpose_stays_as_it_is(bound_loss, batch):
    def refusing(inputs: BatchLossInputs):
        raise DataError("no reward is negative here")

    with pytest.raises(DataError, match=r"^no reward is negative here$"):
        compute_loss(bound_loss(refusing), batch())


EVERY = LOSS_NEEDS - {"teacher_divergence"} | {TeacherDivergence("forward")}


@pytest.mark.parametrize("needs", [set(), {"old_logprobs"}, {"entropy", "reward"}, {"teacher_logprobs"}, EVERY])
def test_a_loss_sees_only_what_it_asked_for(bound_loss, batch, needs):
    @loss(needs=needs)
    def asking(inputs: BatchLossInputs): ...

    inputs = batch()
    seen = bound_loss(asking).view(inputs)
    visible = {name for name in LOSS_NEEDS if getattr(seen, name) is not None}
    assert visible == {need if isinstance(need, str) else "teacher_divergence" for need in needs}
    for name in (*visible, "trainer_logprobs", "advantages", "loss_mask", "group_ids", "metadata"):
        assert getattr(seen, name) is getattr(inputs, name)
    assert (seen.step, seen.max_steps) == (3, 7)


def test_a_fresh_loss_has_no_state(bound_loss, batch):
    class Counting:
        def __init__(self, start: float = 0.0):
            self.count = start

        def __call__(self, inputs: BatchLossInputs):
            self.count += 1
            return LossOutputs(inputs.trainer_logprobs * self.count)

    used = bound_loss(Counting, start=10.0)
    inputs = batch()
    for _ in range(2):
        last = compute_loss(used, inputs).loss
    torch.testing.assert_close(last, inputs.trainer_logprobs * 12)
    torch.testing.assert_close(compute_loss(used.fresh(), inputs).loss, inputs.trainer_logprobs * 11)


def test_a_loss_is_told_of_updates_if_it_asks(bound_loss):
    class Learns:
        def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
            return LossOutputs(inputs.trainer_logprobs)

        def after_update(self, measures):
            self.learned = measures

    def plain(inputs: BatchLossInputs) -> LossOutputs:
        return LossOutputs(inputs.trainer_logprobs)

    learning, other = bound_loss(Learns), bound_loss(plain)
    assert (learning.learns_of_updates, other.learns_of_updates) == (True, False)
    for each in (learning, other):
        each.after_update({"loss": 1.5})
    assert learning.instance.learned == {"loss": 1.5}


def test_rows_are_summed_over_counted_tokens_whatever_the_others_hold():
    mask = torch.tensor([[True, False, True], [False, False, True]])
    per_token = torch.tensor([[1.0, float("nan"), 2.0], [float("inf"), -float("inf"), 4.0]])
    assert sum_rows(LossOutputs(per_token), mask).tolist() == [3.0, 4.0]


def test_garbage_in_masked_slots_gets_no_gradient():
    per_token = torch.tensor([[1.0, float("nan")]], requires_grad=True)
    sum_rows(LossOutputs(per_token), torch.tensor([[True, False]])).sum().backward()
    assert per_token.grad.tolist() == [[1.0, 0.0]]


def test_rows_that_are_sums_already_stay():
    rows = torch.tensor([1.0, 2.0])
    assert sum_rows(LossOutputs(rows), torch.zeros(2, 3, dtype=torch.bool)) is rows


def test_kept_rows_are_kept_in_every_field(batch):
    inputs = batch()
    kept = keep_rows(inputs, torch.tensor([True, False, True]))
    for name in ("trainer_logprobs", "inference_logprobs", "teacher_logprobs", "advantages", "loss_mask", "entropy"):
        assert torch.equal(getattr(kept, name), getattr(inputs, name)[[0, 2]])
    assert kept.input_ids[:, 0].tolist() == [0, 10]
    assert kept.reward.tolist() == [1.0, 0.5]
    assert kept.group_ids.tolist() == [0, 1]
    assert kept.metadata == [{"row": 0}, {"row": 2}]
    assert kept.step == 3


def test_gradients_flow_through_kept_rows(batch):
    inputs = batch()
    keep_rows(inputs, torch.tensor([False, True, False])).trainer_logprobs.sum().backward()
    assert inputs.trainer_logprobs.grad.tolist() == [[0.0] * 5, [1.0] * 5, [0.0] * 5]


def test_rows_without_metadata_stay_without(batch):
    assert keep_rows(batch(metadata=None, reward=None), torch.tensor([True, False, False])).metadata is None
