"""The adapter: a loss of one sequence gives what the same loss gives in batch form."""

from dataclasses import replace

import pytest
import torch

from plugrad import BatchLossInputs, ContractError, LossInputs, LossOutputs, Max, Mean
from plugrad.contracts.measures import Measures, as_measure
from plugrad.host.loss import compute_loss, sum_rows
from plugrad.host.sequence_adapter import as_batch


def surrogate(inputs):
    ratio = (inputs.trainer_logprobs - inputs.old_logprobs).exp()
    return -torch.minimum(ratio, ratio.clamp(0.8, 1.2)) * inputs.advantages - 0.1 * inputs.entropy


def by_batch(inputs: BatchLossInputs):
    return LossOutputs(surrogate(inputs), {"entropy": Mean.over(inputs.entropy, inputs.loss_mask)})


def by_sequence(inputs: LossInputs):
    per_token = surrogate(inputs) * inputs.loss_mask
    return LossOutputs(per_token.sum(), {"entropy": Mean.over(inputs.entropy, inputs.loss_mask)})


def by_token(inputs):
    return LossOutputs(surrogate(inputs), {"entropy": Mean.over(inputs.entropy, inputs.loss_mask)})


def losses_and_gradients(loss, inputs):
    rows = sum_rows(compute_loss(loss, inputs), inputs.loss_mask)
    (rows * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    return rows.detach(), inputs.trainer_logprobs.grad, inputs.entropy.grad


@pytest.mark.parametrize("function", [by_sequence, by_token])
def test_both_forms_of_a_loss_agree(bound_loss, batch, function):
    for found, expected in zip(
        losses_and_gradients(bound_loss(function), batch()), losses_and_gradients(bound_loss(by_batch), batch()), strict=True
    ):
        torch.testing.assert_close(found, expected)
        assert expected.abs().sum() > 0.1


def test_measures_of_both_forms_agree(bound_loss, batch):
    by_rows, at_once = (compute_loss(bound_loss(f), batch()).metrics["entropy"].value() for f in (by_sequence, by_batch))
    assert by_rows == pytest.approx(at_once)


def test_the_shape_says_whether_the_loss_is_per_token(bound_loss, batch):
    assert compute_loss(bound_loss(by_sequence), batch()).loss.shape == (3,)
    per_token = compute_loss(bound_loss(by_token), batch()).loss
    assert per_token.shape == (3, 5)
    assert torch.equal(per_token[1, 3:], torch.zeros(2))


def test_losses_per_token_are_padded_to_the_width_of_the_batch(bound_loss, batch):
    inputs = batch(loss_mask=torch.tensor([[0, 1, 1, 0, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0]]).bool())
    per_token = compute_loss(bound_loss(by_token), inputs).loss
    torch.testing.assert_close(per_token[0, :3], surrogate(inputs)[0, :3])
    assert torch.equal(per_token[:, 3:], torch.zeros(3, 2))


def test_a_row_is_the_sequence_up_to_its_last_counted_token(bound_loss, batch):
    rows = []

    def keeping(inputs):
        rows.append(inputs)
        return LossOutputs(inputs.trainer_logprobs.sum())

    inputs = batch(loss_mask=torch.tensor([[0, 1, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]).bool())
    compute_loss(bound_loss(keeping), inputs)
    assert [row.loss_mask.tolist() for row in rows] == [[0, 1, 0, 1], [0, 1], [0, 0, 0, 0, 1]]
    assert [row.reward.item() for row in rows] == [1.0, 0.0, 0.5]
    assert (rows[1].step, rows[1].max_steps) == (3, 7)
    for name in ("trainer_logprobs", "inference_logprobs", "teacher_logprobs", "advantages", "input_ids", "ref_logprobs"):
        assert torch.equal(getattr(rows[1], name), getattr(inputs, name)[1, :2])
    assert all(isinstance(row, LossInputs) for row in rows)


def test_what_the_batch_lacks_its_rows_lack(bound_loss, batch):
    def checking(inputs):
        assert inputs.entropy is None
        assert inputs.reward is None
        return LossOutputs(inputs.trainer_logprobs.sum())

    found = compute_loss(bound_loss(checking), batch(entropy=None, reward=None))
    assert found.loss.shape == (3,)


def test_metrics_are_merged_with_weight_one_per_sequence(bound_loss, batch):
    def measuring(inputs):
        length = inputs.loss_mask.sum()  # 4, 2, 3
        return LossOutputs(
            inputs.trainer_logprobs.sum(),
            {
                "scalar": length.double(),
                "number": float(length),
                "vector": inputs.loss_mask[inputs.loss_mask] * length,
                "mean": Mean(length * 10.0, length),
                "max": Max(length),
            },
        )

    metrics = compute_loss(bound_loss(measuring), batch()).metrics
    measures = Measures({name: as_measure(value, num_sequences=3) for name, value in metrics.items()})
    assert measures.values_by_name() == {
        "scalar": 3.0,
        "number": 3.0,
        "vector": pytest.approx(29 / 9),
        "mean": 10.0,
        "max": 4.0,
    }
    assert {name: m.count for name, m in measures.on_cpu().items() if isinstance(m, Mean)} == {
        "scalar": 3.0,
        "number": 3.0,
        "vector": 9.0,
        "mean": 9.0,
    }


def test_a_metric_of_some_sequences_counts_those_alone(bound_loss, batch):
    def measuring(inputs):
        length = inputs.loss_mask.sum().double()
        return LossOutputs(inputs.trainer_logprobs.sum(), {"long": length} if length > 2 else {})

    metrics = compute_loss(bound_loss(measuring), batch()).metrics
    assert as_measure(metrics["long"], num_sequences=3).value() == 3.5


def test_merged_metrics_carry_no_graph(bound_loss, batch):
    def measuring(inputs):
        return LossOutputs(inputs.trainer_logprobs.sum(), {"mean": inputs.trainer_logprobs.mean()})

    assert not compute_loss(bound_loss(measuring), batch()).metrics["mean"].requires_grad


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda inputs: None, r"returned NoneType; a loss returns plugrad\.LossOutputs"),
        (lambda inputs: inputs.trainer_logprobs.sum(), "returned Tensor; a loss returns"),
        (lambda inputs: LossOutputs(0.5), r"returned LossOutputs\(loss=float\); a loss returns"),
        (lambda inputs: LossOutputs(inputs.trainer_logprobs[:1]), r"a loss of shape \(1,\) for a sequence of 5 tokens"),
        (lambda inputs: LossOutputs(torch.zeros(1, 5)), r"a loss of shape \(1, 5\) for a sequence of 5 tokens"),
        (
            lambda inputs: LossOutputs(
                inputs.trainer_logprobs if len(inputs.loss_mask) > 3 else inputs.trainer_logprobs.sum()
            ),
            "returned a scalar for some sequences and one value per token for others",
        ),
        (lambda inputs: LossOutputs(inputs.trainer_logprobs.sum(), None), "metrics.*NoneType"),
        (lambda inputs: LossOutputs(inputs.trainer_logprobs.sum(), {"m": "x"}), "'m'.*this is a str"),
        (lambda inputs: LossOutputs(inputs.trainer_logprobs.sum(), {"m": torch.ones(2, 2)}), r"'m'.*shape \[2, 2\]"),
        (
            lambda inputs: LossOutputs(
                inputs.trainer_logprobs.sum(), {"m": Max(1.0) if len(inputs.loss_mask) > 3 else Mean(1.0, 1.0)}
            ),
            "'m' was a Max and is now a Mean",
        ),
    ],
)
def test_what_is_no_loss_of_a_sequence_is_refused_with_its_owner(bound_loss, batch, returned, message):
    def wrong(inputs):
        return returned(inputs)

    with pytest.raises(ContractError, match=rf"the loss 'wrong' \(mine\) returned.*{message.removeprefix('returned')}"):
        compute_loss(bound_loss(wrong), batch())


def test_what_a_loss_raises_is_its_own(bound_loss, batch):
    def failing(inputs):
        return inputs.entropi

    with pytest.raises(ContractError, match=r"the loss 'failing' \(mine\) raised AttributeError: .*entropi") as caught:
        compute_loss(bound_loss(failing), batch())
    assert isinstance(caught.value.__cause__, AttributeError)


def test_one_sequence_is_a_batch_of_one_row():
    logprobs, mask = torch.tensor([-1.0, -2.0]), torch.tensor([False, True])
    inputs = as_batch(
        LossInputs(
            trainer_logprobs=logprobs,
            inference_logprobs=logprobs - 1,
            advantages=logprobs + 3,
            loss_mask=mask,
            reward=torch.tensor(0.5),
            step=4,
            metadata={"level": 2},
        )
    )
    assert inputs.trainer_logprobs.tolist() == [[-1, -2]]
    assert inputs.loss_mask.tolist() == [[False, True]]
    assert inputs.reward.tolist() == [0.5]
    assert (inputs.teacher_logprobs, inputs.group_ids, inputs.step) == (None, None, 4)
    assert inputs.metadata == [{"level": 2}]


def by_level(inputs):
    return LossOutputs((inputs.trainer_logprobs * inputs.loss_mask).sum() * inputs.metadata["level"])


def by_level_if_any(inputs):
    try:
        level = inputs.metadata["level"]
    except Exception:
        level = 1
    return LossOutputs((inputs.trainer_logprobs * inputs.loss_mask).sum() * level)


def later_by_level(inputs):
    return LossOutputs((inputs.trainer_logprobs * inputs.loss_mask).sum() * (inputs.metadata["level"] if inputs.step else 1))


@pytest.mark.parametrize("function", [by_level, by_level_if_any, later_by_level])
def test_a_sequence_has_the_columns_of_its_own_example(bound_loss, function):
    logprobs, mask = -torch.rand(12, 4), torch.ones(12, 4).bool()
    # Ten rows alike, which could be computed together, and two of other lengths.
    mask[3, 2:] = mask[7, 1:] = False
    inputs = BatchLossInputs(
        trainer_logprobs=logprobs.requires_grad_(), inference_logprobs=logprobs.detach(), advantages=logprobs.detach(),
        loss_mask=mask, metadata=[{"level": row} for row in range(12)],
    )  # fmt: skip
    loss = bound_loss(function)
    compute_loss(loss, inputs)
    found = sum_rows(compute_loss(loss, replace(inputs, step=1)), mask)
    torch.testing.assert_close(found, (logprobs * mask).sum(dim=1) * torch.arange(12))
