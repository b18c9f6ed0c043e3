"""What metrics get: rows of micro-batches in the order of the rollouts again, at a price that does not grow with rows."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from plugrad.contracts.loss import BatchLossInputs
from plugrad.policy.micro_batches import TrainingSequence
from plugrad.trainer.batch.cut import OptimizerBatch
from plugrad.trainer.update.metric_inputs import metric_inputs
from plugrad.trainer.update.run_progress import Progress


class Operations(TorchDispatchMode):
    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += 1
        return func(*args, **(kwargs or {}))


def batch_of(rollouts):
    """One group. A rollout is the numbers of tokens in its segments."""
    lengths = [(member, length) for member, segments in enumerate(rollouts) for length in segments]
    sequences = [
        TrainingSequence([5] * n, [True] * n, [1.0] * n, [0.0] * n, 1.0, group_id=3, member=member, metadata={})
        for member, n in lengths
    ]
    completions = [{"reward": float(member), "example": {}} for member in range(len(rollouts))]
    return OptimizerBatch([completions], sequences)


def scored(batch, numbers, *, more_rows=0):
    """A micro-batch of those sequences; token t of sequence n has the log-prob n + t / 10, and padding has 99."""
    width = max(len(batch.sequences[number].input_ids) for number in numbers) + 1
    values = torch.full((len(numbers) + more_rows, width), 99.0)
    for row, number in enumerate(numbers):
        length = len(batch.sequences[number].input_ids)
        values[row, :length] = number + torch.arange(length) / 10
    fields = ("trainer_logprobs", "inference_logprobs", "advantages", "entropy")
    return numbers, BatchLossInputs(**dict.fromkeys(fields, values), loss_mask=values < 99)


def test_rows_of_micro_batches_come_back_in_the_order_of_the_rollouts():
    batch = batch_of([(3,), (2, 1), (4,)])
    parts = [scored(batch, [3, 1]), scored(batch, [0, 2], more_rows=1)]
    inputs = metric_inputs(batch, parts, Progress(step=1, max_steps=2, version=1))
    # The second rollout has two segments, one behind the other; padding is zero.
    wanted = torch.tensor([[0, 0.1, 0.2, 0], [1, 1.1, 2, 0], [3, 3.1, 3.2, 3.3]])
    torch.testing.assert_close(inputs.trainer_logprobs, wanted)
    torch.testing.assert_close(inputs.entropy, wanted)
    assert inputs.loss_mask.tolist() == [[True] * 3 + [False]] * 2 + [[True] * 4]
    assert inputs.group_ids.tolist() == [3, 3, 3]
    assert inputs.ref_logprobs is None


def test_a_rank_without_rows_of_its_own_in_a_micro_batch_gets_zeros():
    batch = batch_of([(3,), (2,)])
    nothing = ([], scored(batch, [0])[1])
    inputs = metric_inputs(batch, [scored(batch, [1]), nothing], Progress(step=1, max_steps=2, version=1))
    torch.testing.assert_close(inputs.trainer_logprobs, torch.tensor([[0, 0, 0], [1, 1.1, 0]]))


def test_more_rows_are_no_more_operations():
    numbers = []
    for rollouts in (4, 40):
        batch = batch_of([(3,)] * rollouts)
        part = scored(batch, list(range(rollouts)))
        with Operations() as operations:
            metric_inputs(batch, [part], Progress(step=1, max_steps=2, version=1))
        numbers.append(operations.number)
    assert numbers[0] == numbers[1]
