"""LossInputs and BatchLossInputs: built by hand from four fields, and strict about shapes."""

from dataclasses import FrozenInstanceError, fields

import pytest
import torch

from plugrad import AdvantageInputs, BatchLossInputs, ContractError, LossInputs, LossOutputs, MetricInputs
from plugrad.contracts.needs import GIVEN_TO_LOSSES, LOSS_NEEDS

REQUIRED = ["trainer_logprobs", "inference_logprobs", "advantages", "loss_mask"]


def sequence(**changes):
    given = dict.fromkeys(REQUIRED, torch.zeros(3)) | {"loss_mask": torch.ones(3, dtype=torch.bool)}
    return LossInputs(**{**given, **changes})


def batch(**changes):
    given = dict.fromkeys(REQUIRED, torch.zeros(2, 3)) | {"loss_mask": torch.ones(2, 3, dtype=torch.bool)}
    return BatchLossInputs(**{**given, **changes})


@pytest.mark.parametrize("inputs", [LossInputs, BatchLossInputs, AdvantageInputs, MetricInputs])
def test_every_field_is_given_by_name(inputs):
    assert all(field.kw_only for field in fields(inputs))
    with pytest.raises(ContractError, match="takes keywords alone"):
        inputs(torch.zeros(2, 3))


def test_four_fields_are_enough():
    inputs = sequence()
    later = {field.name: getattr(inputs, field.name) for field in fields(inputs) if field.name not in REQUIRED}
    assert later.pop("step") == 0
    assert later.pop("max_steps") == 1
    later.pop("metadata")
    assert later.pop("parameters") is None, "only a loss with a method `trained` has some"
    assert set(later) == LOSS_NEEDS - {"again"} | (GIVEN_TO_LOSSES - {"metadata", "group_ids"})
    assert set(later.values()) == {None}


WRONG_IN_A_SEQUENCE = {
    "trainer_logprobs": torch.zeros(1, 3),
    "inference_logprobs": torch.zeros(2),
    "teacher_logprobs": torch.zeros(4),
    "advantages": torch.zeros(2),
    "loss_mask": torch.ones(3),
    "old_logprobs": torch.zeros(3, dtype=torch.long),
    "ref_logprobs": torch.zeros(3, 1),
    "entropy": torch.tensor(0.0),
    "input_ids": torch.zeros(3),
    "reward": torch.zeros(3),
    "step": 1.5,
}


@pytest.mark.parametrize("field", WRONG_IN_A_SEQUENCE)
def test_a_sequence_refuses_wrong_shapes_and_types(field):
    # A wrong first field sets the length that the others are then held against.
    culprit = r"\w+" if field in REQUIRED[:2] else field
    with pytest.raises(ContractError, match=rf"^plugrad\.LossInputs was given {culprit} = .*It takes .*\.$"):
        sequence(**{field: WRONG_IN_A_SEQUENCE[field]})


WRONG_IN_A_BATCH = {
    "teacher_logprobs": torch.zeros(2, 4),
    "advantages": torch.zeros(2),
    "loss_mask": torch.ones(2, 3),
    "entropy": torch.zeros(3, 3),
    "input_ids": torch.zeros(2, 3),
    "reward": torch.zeros(3),
    "group_ids": torch.zeros(2),
    "metadata": [1, 2],
}


@pytest.mark.parametrize("field", WRONG_IN_A_BATCH)
def test_a_batch_refuses_wrong_shapes_and_types(field):
    with pytest.raises(ContractError, match=rf"^plugrad\.BatchLossInputs was given {field} = .*It takes .*\.$"):
        batch(**{field: WRONG_IN_A_BATCH[field]})


def test_doubles_and_halves_are_floats_too():
    double, half = torch.full((3,), -0.5, dtype=torch.double), torch.full((3,), -0.5, dtype=torch.bfloat16)
    inputs = sequence(trainer_logprobs=double, entropy=half, reward=torch.tensor(1.0))
    assert (inputs.trainer_logprobs.dtype, inputs.entropy.dtype) == (torch.double, torch.bfloat16)


def test_what_identifies_rows_belongs_to_the_batch_alone():
    only_in_batch = {field.name for field in fields(BatchLossInputs)} - {field.name for field in fields(LossInputs)}
    assert only_in_batch == {"group_ids", "again", "sensitivity"}


def test_inputs_are_frozen():
    with pytest.raises(FrozenInstanceError):
        sequence().advantages = torch.ones(3)


def test_unchecked_skips_the_shape_check_and_nothing_else():
    values = {field.name: getattr(sequence(), field.name) for field in fields(LossInputs)}
    inputs = LossInputs.unchecked({**values, "advantages": torch.zeros(2)})
    assert isinstance(inputs, LossInputs)
    assert len(inputs.advantages) == 2
    assert vars(inputs).keys() == values.keys()


def test_outputs_have_no_metrics_of_each_other():
    first, second = LossOutputs(torch.tensor(1.0)), LossOutputs(torch.tensor(2.0))
    first.metrics["kl"] = 1.0
    assert second.metrics == {}
