"""A loss of one sequence computed for many at once: the same numbers as one after the other."""

import pytest
import torch

from plugrad import BatchLossInputs, ContractError, LossInputs, LossOutputs, Max, Mean, Min, Sum
from plugrad.contracts.measures import Measures, as_measure
from plugrad.host.loss import compute_loss, sum_rows


@pytest.fixture
def inputs():
    """Make 14 sequences: five and six with equal masks, two with a mask of their own, one with a hole in it."""
    spans = [(1, 4)] * 3 + [(2, 6)] * 5 + [(1, 7), (3, 5)] + [(1, 4)] * 3
    mask = torch.zeros(14, 8, dtype=torch.bool)
    for row, (start, end) in enumerate(spans):
        mask[row, start:end] = True
    mask[13, [1, 3]] = True

    def make(seed=0):
        generator = torch.Generator().manual_seed(seed)

        def numbers():
            return torch.where(mask, -2 * torch.rand(mask.shape, generator=generator, dtype=torch.double), 0.0)

        return BatchLossInputs(
            trainer_logprobs=numbers().requires_grad_(),
            inference_logprobs=numbers(),
            advantages=numbers() + 1,
            loss_mask=mask,
            reward=torch.arange(14).double(),
            entropy=numbers().requires_grad_(),
        )

    return make


def clipped(inputs):
    ratio = (inputs.trainer_logprobs - inputs.inference_logprobs).exp()
    return torch.minimum(ratio, ratio.clamp(0.8, 1.2)) * inputs.advantages - 0.1 * inputs.entropy


CALLS = []


def indexed(inputs: LossInputs):
    """As prime-rl documents its losses."""
    CALLS.append(1)
    ratio = inputs.trainer_logprobs.exp()
    metrics = {"ratio": ratio[inputs.loss_mask].mean(), "all": ratio[inputs.loss_mask], "one": 1.0}
    return LossOutputs(-clipped(inputs)[inputs.loss_mask].sum() * inputs.reward, metrics)


def per_token(inputs: LossInputs):
    CALLS.append(1)
    values = inputs.trainer_logprobs
    metrics = {
        "mean": Mean.over(values, inputs.loss_mask),
        "count": Sum(inputs.loss_mask.sum()),
        "least": Min(values.min()),
        "greatest": Max(values.max()),
        "length": Mean(float(len(inputs.loss_mask)), 1.0),
    }
    return LossOutputs(clipped(inputs), metrics)


def geometric(inputs: LossInputs):
    """Not a sum over tokens: the tokens of a sequence meet."""
    CALLS.append(1)
    log_ratio = (inputs.trainer_logprobs - inputs.inference_logprobs) * inputs.loss_mask
    return LossOutputs((log_ratio.sum() / inputs.loss_mask.sum()).exp() * inputs.reward)


def one_by_one(function, inputs):
    rows = []
    for row in range(len(inputs.loss_mask)):
        end = int(inputs.loss_mask[row].nonzero().max()) + 1
        fields = ("trainer_logprobs", "inference_logprobs", "advantages", "loss_mask", "entropy")
        values = {name: getattr(inputs, name)[row, :end] for name in fields}
        rows.append(function(LossInputs(reward=inputs.reward[row], **values)))
    return rows


def row_sum(loss, mask):
    return loss if loss.ndim == 0 else loss[mask[: len(loss)]].sum()


@pytest.mark.parametrize("function", [indexed, per_token, geometric])
def test_it_is_the_same_as_one_by_one(bound_loss, inputs, function):
    loss = bound_loss(function)
    for seed in range(3):
        CALLS.clear()
        given = inputs(seed)
        outputs = compute_loss(loss, given)
        # The first micro-batch is computed both ways; after that two calls do for eleven of the fourteen sequences.
        assert len(CALLS) == (14 + 5 if seed == 0 else 5)
        expected = one_by_one(function, given)
        sums = torch.stack([row_sum(output.loss, mask) for output, mask in zip(expected, given.loss_mask, strict=True)])
        torch.testing.assert_close(sum_rows(outputs, given.loss_mask), sums)
        weights = torch.arange(1.0, 15.0)
        found_gradients = torch.autograd.grad((sum_rows(outputs, given.loss_mask) * weights).sum(), given.trainer_logprobs)
        torch.testing.assert_close(found_gradients, torch.autograd.grad((sums * weights).sum(), given.trainer_logprobs))
        measures = Measures()
        for output in expected:
            measures.update({name: as_measure(value, num_sequences=1) for name, value in output.metrics.items()})
        found = {name: as_measure(value, num_sequences=14) for name, value in outputs.metrics.items()}
        assert Measures(found).values_by_name() == pytest.approx(measures.values_by_name())
        assert not any(getattr(value, "requires_grad", False) for value in outputs.metrics.values())


def branching(inputs):
    CALLS.append(1)
    return LossOutputs(inputs.trainer_logprobs.sum() * (2 if inputs.trainer_logprobs.sum() < -4 else 1))


def leaving_torch(inputs):
    CALLS.append(1)
    return LossOutputs(inputs.trainer_logprobs.sum() * float(inputs.reward.item()))


def random(inputs):
    CALLS.append(1)
    return LossOutputs((inputs.trainer_logprobs * torch.rand(len(inputs.loss_mask))).sum())


def counting(inputs):
    """Its value depends on how often it is called, so a mapped call would give something else."""
    CALLS.append(1)
    return LossOutputs(inputs.trainer_logprobs.sum() * len(CALLS))


@pytest.mark.parametrize("function", [branching, leaving_torch, random, counting])
def test_what_cannot_be_mapped_is_called_for_each_sequence(bound_loss, inputs, function):
    loss = bound_loss(function)
    compute_loss(loss, inputs())
    CALLS.clear()
    compute_loss(loss, inputs(1))
    assert len(CALLS) == 14


def test_what_has_state_is_called_for_each_sequence(bound_loss, inputs):
    class Counts:
        def __init__(self):
            self.calls = 0

        def __call__(self, inputs):
            self.calls += 1
            return LossOutputs(inputs.trainer_logprobs.sum())

    loss = bound_loss(Counts)
    for _ in range(2):
        compute_loss(loss, inputs())
    assert loss.call.call.calls == 28


def test_a_loss_that_cannot_be_mapped_later_goes_on_one_by_one(bound_loss, inputs):
    def changing(inputs):
        CALLS.append(1)
        late = len(CALLS) > 19
        return LossOutputs(inputs.trainer_logprobs.sum() * (inputs.reward.item() if late else 1.0))

    CALLS.clear()
    loss, given = bound_loss(changing), inputs()
    compute_loss(loss, given)
    found = compute_loss(loss, given).loss
    torch.testing.assert_close(found, given.trainer_logprobs.sum(dim=1) * given.reward)


@pytest.mark.parametrize("field", ["advantages", "inference_logprobs"])
def test_inputs_that_are_changed_are_named(bound_loss, inputs, field):
    def changing(inputs):
        getattr(inputs, field).mul_(2)
        return LossOutputs(inputs.trainer_logprobs.sum())

    with pytest.raises(ContractError, match=rf"the loss 'changing' \(mine\) changed '{field}' of its inputs in place"):
        compute_loss(bound_loss(changing), inputs())


def test_what_a_loss_raises_is_its_own_and_not_that_of_mapping(bound_loss, inputs):
    def failing(inputs):
        if len(inputs.loss_mask) == 6:
            raise KeyError("six")
        return LossOutputs(inputs.trainer_logprobs.sum())

    with pytest.raises(ContractError, match=r"the loss 'failing' \(mine\) raised KeyError: 'six'"):
        compute_loss(bound_loss(failing), inputs())
