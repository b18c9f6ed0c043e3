"""AdvantageInputs in both of its forms, and AdvantageOutputs in both of its."""

import numpy as np
import pytest
import torch

from plugrad import AdvantageInputs, AdvantageOutputs, ContractError

REWARDS = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
LENGTHS = torch.tensor([[4, 2, 3], [1, 1, 5]])


def test_rewards_and_lengths_are_enough():
    inputs = AdvantageInputs(rewards=REWARDS, completion_lengths=LENGTHS)
    assert inputs.rewards is REWARDS
    assert inputs.completion_lengths is LENGTHS
    assert inputs.rollouts == []
    assert inputs.greedy_rewards is None


def test_rollouts_are_enough(rollout):
    inputs = AdvantageInputs(rollouts=[[rollout(1.0, 4), rollout(0.1, 2)], [rollout(0.0, 1), rollout(3.0, 6)]])
    assert inputs.rewards.tolist() == [[1.0, 0.1], [0.0, 3.0]]  # doubles: 0.1 stays 0.1
    assert inputs.completion_lengths.tolist() == [[4, 2], [1, 6]]


def test_whole_number_rewards_become_floats(rollout):
    inputs = AdvantageInputs(rollouts=[[rollout(1, 4), rollout(0, 2)]])
    assert inputs.rewards.dtype == torch.double


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.long])
def test_whole_number_tensors_become_floats_too(dtype):
    inputs = AdvantageInputs(
        rewards=torch.tensor([[1, 0]], dtype=dtype),
        completion_lengths=torch.ones(1, 2, dtype=torch.long),
        greedy_rewards=torch.tensor([1], dtype=dtype),
    )
    assert inputs.rewards.tolist() == [[1.0, 0.0]]
    assert inputs.rewards.dtype == inputs.greedy_rewards.dtype == torch.double


def test_given_rewards_win_over_the_rollouts(rollout):
    inputs = AdvantageInputs(rewards=torch.tensor([[0.5, 0.25]]), rollouts=[[rollout(1.0, 4), rollout(0.0, 2)]])
    assert inputs.rewards.tolist() == [[0.5, 0.25]]
    assert inputs.completion_lengths.tolist() == [[4, 2]]


def test_ragged_groups_are_refused_with_their_sizes(rollout):
    with pytest.raises(ContractError, match=r"same number in every group; the groups hold \[2, 1\]"):
        AdvantageInputs(rollouts=[[rollout(1.0, 4), rollout(0.0, 2)], [rollout(0.0, 1)]])


@pytest.mark.parametrize("given", [{}, {"rewards": REWARDS}], ids=["nothing", "no lengths"])
def test_too_little_is_refused(given):
    with pytest.raises(ContractError, match="needs rewards and completion_lengths, or rollouts with the same number"):
        AdvantageInputs(**given)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("rewards", torch.zeros(6)),
        ("rewards", torch.zeros(2, 3, dtype=torch.complex64)),
        ("completion_lengths", torch.zeros(2, 3)),
        ("completion_lengths", torch.zeros(3, 2, dtype=torch.long)),
        ("greedy_rewards", torch.zeros(3)),
        ("rollouts", ["a rollout"]),
    ],
)
def test_wrong_shapes_and_types_are_refused(field, wrong):
    with pytest.raises(ContractError, match=rf"^plugrad\.AdvantageInputs was given {field} = .*It takes .*\.$"):
        AdvantageInputs(**{"rewards": REWARDS, "completion_lengths": LENGTHS, field: wrong})


def test_advantages_may_be_one_tensor_per_completion():
    ragged = [[torch.zeros(4), torch.ones(2)], [torch.ones(1), torch.zeros(3)]]
    assert AdvantageOutputs(ragged).advantages is ragged


TWO = [[0.5, -0.5], [1.0, 2.0]]
SEQUENCES = [[[0.5, 1.0], [2.0]], [[3.0], [4.0, 5.0, 6.0]]]


@pytest.mark.parametrize(
    "given",
    [
        TWO,
        [tuple(row) for row in TWO],
        np.array(TWO),
        np.array(TWO, dtype=">f4"),
        np.array(TWO[::-1])[::-1],
        [[np.float64(value) for value in row] for row in TWO],
        [[torch.tensor(value) for value in row] for row in TWO],
    ],
)
def test_numbers_become_a_float_tensor(given):
    advantages = AdvantageOutputs(given).advantages
    assert (advantages.tolist(), advantages.is_floating_point()) == (TWO, True)


@pytest.mark.parametrize("given", [torch.tensor([[1, 0]]), torch.tensor([[True, False]]), np.array([[1, 0]]), [[1, False]]])
def test_whole_numbers_become_floats(given):
    advantages = AdvantageOutputs(given).advantages
    assert (advantages.tolist(), advantages.dtype) == ([[1.0, 0.0]], torch.double)


@pytest.mark.parametrize("as_sequence", [list, tuple, np.array, torch.tensor, lambda row: torch.tensor(row).long()])
def test_sequences_of_numbers_become_float_tensors(as_sequence):
    advantages = AdvantageOutputs([[as_sequence(row) for row in group] for group in SEQUENCES]).advantages
    assert all(entry.is_floating_point() for group in advantages for entry in group)
    whole = [[[float(int(value)) for value in row] for row in group] for group in SEQUENCES]
    assert [[entry.tolist() for entry in group] for group in advantages] in (SEQUENCES, whole)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (torch.zeros(3), r"a tensor of float32 of shape \[3\]"),
        (torch.zeros(2, 3, dtype=torch.complex64), "a tensor of complex64"),
        ([torch.zeros(3)], r"a list whose first entry is a tensor of float32 of shape \[3\]"),
        # Every element is wrong: of a list, beartype looks at one element, drawn at random.
        ([[torch.zeros(2, 2)]], "a list whose first entry is a list whose first entry is a tensor"),
        ([["high"]], ".* whose first entry is a str"),
        (np.array([["high"]]), "a NumPy array of <U4"),
        ([0.5, 0.5], "a list whose first entry is a float"),
        (None, "None"),
        (0.5, "a float"),
    ],
)
def test_other_advantages_are_refused(wrong, found):
    takes = r"It takes a float tensor of shape \[num_examples, rollouts_per_example\] or a list of lists of float tensors"
    with pytest.raises(ContractError, match=rf"^plugrad\.AdvantageOutputs was given advantages = {found}.*\. {takes}"):
        AdvantageOutputs(wrong)


def test_ragged_numbers_are_refused_with_their_sizes():
    with pytest.raises(ContractError, match=r"was given one advantage per rollout, in groups of \[2, 1\]"):
        AdvantageOutputs([[1.0, 2.0], [1.0]])
