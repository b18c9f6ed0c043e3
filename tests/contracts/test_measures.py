"""Measures: numbers that add over micro-batches and ranks without changing what they mean."""

import math

import numpy as np
import pytest
import torch

from plugrad import ContractError, Explained, Max, Mean, Min, Sum
from plugrad.contracts.measures import Measures, as_measure

NAN = math.nan


def test_a_mean_adds_totals_and_counts():
    both = Mean(6.0, 3.0) + Mean(2.0, 1.0)
    assert both == Mean(8.0, 4.0)
    assert both.value() == 2.0


def test_a_mean_over_a_mask_ignores_what_is_masked():
    values, mask = torch.tensor([[1.0, NAN], [4.0, math.inf]]), torch.tensor([[True, False], [True, False]])
    assert Mean.over(values, mask).value() == 2.5


def test_a_mean_over_booleans_is_a_share():
    mask = torch.tensor([True, True, True, False])
    assert Mean.over(torch.tensor([True, False, False, True]), mask).value() == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("values", "mask", "found"),
    [
        ([1.0, 2.0], torch.ones(2) > 0, "a list whose first entry is a float and a tensor of bool"),
        (np.ones(2), torch.ones(2) > 0, r"a NumPy array of float64 of shape \[2\] and a tensor of bool"),
        (torch.ones(2), torch.ones(2), r".* and a tensor of float32 of shape \[2\]. It takes a tensor of values and a bool"),
        (torch.ones(3, 2), torch.ones(2) > 0, r"values of shape \[3, 2\] and a mask of shape \[2\]. Each value needs"),
    ],
)
def test_a_mean_over_something_else_says_what_it_takes(values, mask, found):
    with pytest.raises(ContractError, match=rf"^plugrad\.Mean\.over was given {found}"):
        Mean.over(values, mask)


@pytest.mark.parametrize("dtype", ["uint16", "float16", ">f4", "int8"])
def test_arrays_of_any_layout_are_read(dtype):
    assert as_measure(np.array([4, 9, 2, 9], dtype=dtype)[::-2], num_sequences=1).value() == 9


def test_a_mean_does_not_depend_on_how_it_was_cut():
    values, mask = torch.arange(12.0).reshape(4, 3), torch.arange(12).reshape(4, 3) % 5 > 0
    cut = Mean.over(values[:1], mask[:1]) + Mean.over(values[1:], mask[1:])
    assert cut.value() == Mean.over(values, mask).value() == 51 / 9  # without 0, 5 and 10


@pytest.mark.parametrize("values", [torch.tensor([1.0, 2.0, 6.0]), [1.0, 2.0, 6.0], iter([1, 2, 6])])
def test_mean_of_counts_every_value(values):
    mean = Mean.of(values)
    assert (float(mean.total), mean.count) == (9.0, 3.0)


def test_a_mean_of_nothing_is_nan():
    assert math.isnan(Mean.of([]).value())
    assert math.isnan(Mean.over(torch.ones(2), torch.zeros(2, dtype=torch.bool)).value())


@pytest.mark.parametrize("left", [3.0, torch.tensor(3.0)])
@pytest.mark.parametrize("right", [-1.0, torch.tensor(-1.0), torch.tensor(-1.0, dtype=torch.double)])
def test_floats_and_tensors_add_alike(left, right):
    assert (Sum(left) + Sum(right)).value() == 2.0
    assert (Min(left) + Min(right)).value() == (Min(right) + Min(left)).value() == -1.0
    assert (Max(left) + Max(right)).value() == (Max(right) + Max(left)).value() == 3.0
    assert (Mean(left, 1.0) + Mean(right, torch.tensor(3))).value() == 0.5


def test_a_bare_number_weighs_as_many_sequences_as_it_was_computed_from():
    for wrap in (float, torch.tensor):
        both = as_measure(wrap(2.0), num_sequences=3) + as_measure(wrap(6.0), num_sequences=1)
        assert both.value() == 3.0
    assert as_measure(True, num_sequences=4) == Mean(4.0, 4.0)


def test_a_1d_tensor_counts_once_per_element():
    both = as_measure(torch.tensor([1.0, 2.0, 6.0]), num_sequences=100) + as_measure(torch.tensor([11.0]), num_sequences=100)
    assert both.value() == 5.0


@pytest.mark.parametrize(
    ("value", "total", "count"),
    [
        (np.float32(0.5), 1.5, 3.0),
        (np.int64(2), 6.0, 3.0),
        (np.bool_(True), 3.0, 3.0),
        (np.float32([1.0, 2.0]), 3.0, 2.0),
        ([1.0, None, 2.0], 3.0, 2.0),
        ([torch.tensor(1.0), None, 2.0], 3.0, 2.0),
        ([None, None], 0.0, 0.0),
        ((), 0.0, 0.0),
    ],
)
def test_numbers_of_numpy_and_lists_with_gaps_count_what_is_there(value, total, count):
    measure = as_measure(value, num_sequences=3)
    assert (float(measure.total), float(measure.count)) == (total, count)


def test_a_measure_keeps_its_type_and_numbers():
    assert as_measure(Sum(5.0), num_sequences=3) == Sum(5.0)
    assert as_measure(Max(2), num_sequences=3) == Max(2)


@pytest.mark.parametrize("make", [lambda x: x.sum(), lambda x: x, lambda x: Sum(x.sum()), lambda x: Mean(x.sum(), x.max())])
def test_no_measure_keeps_a_graph(make):
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    measure = as_measure(make(logprobs * 2), num_sequences=2)
    assert not any(leaf.requires_grad for leaf in vars(measure).values() if isinstance(leaf, torch.Tensor))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (torch.zeros(2, 2), r"a tensor of float32 of shape \[2, 2\]"),
        ("0.5", "this is a str"),
        (None, "this is None"),
        ({"a": 1.0}, "this is a dict"),
        ([1.0, "2"], "one is a str"),
        ([torch.zeros(2)], r"one is a tensor of float32 of shape \[2\]"),
        (np.array(["a"]), r"this is a NumPy array of <U1 of shape \[1\]"),
        (torch.tensor(1j), "this is a tensor of complex64"),
        (1j, "this is a complex"),
        (Mean(torch.zeros(2), 1.0), r"the total of a Mean must be a number or a tensor with one element, .* \[2\]"),
        (Mean(None, 1.0), "the total of a Mean must be a number .* None"),
        (Max("high"), "the greatest of a Max must be a number .* a str"),
        (Sum(torch.tensor(1j)), "the total of a Sum must be a number .* complex64"),
    ],
)
def test_anything_else_is_no_measure(value, found):
    with pytest.raises(TypeError, match=found):
        as_measure(value, num_sequences=1)


def test_adding_to_a_name_adds_up():
    measures = Measures()
    measures.add("kl", Mean(1.0, 2.0))
    measures.update({"kl": Mean(5.0, 1.0), "skipped": Sum(1.0)})
    assert dict(measures) == {"kl": Mean(6.0, 3.0), "skipped": Sum(1.0)}
    assert measures.values_by_name() == {"kl": 2.0, "skipped": 1.0}


def test_one_name_has_one_type():
    measures = Measures({"kl": Mean(1.0, 1.0)})
    with pytest.raises(TypeError, match="'kl' was a Mean and is now a Max"):
        measures.add("kl", Max(1.0))
    assert measures["kl"] == Mean(1.0, 1.0)


def test_measures_leave_the_mapping_they_were_made_from_alone():
    given = {"kl": Sum(1.0)}
    Measures(given).add("kl", Sum(1.0))
    assert given == {"kl": Sum(1.0)}


def test_on_cpu_has_plain_floats_in_their_own_places():
    leaves = {
        "mean": Mean(torch.tensor(1.5), torch.tensor(3)),
        "half": Mean(torch.tensor(0.5, dtype=torch.bfloat16), 2.0),
        "exact": Sum(torch.tensor(0.1, dtype=torch.double)),
        "least": Min(-4),
        "greatest": Max(torch.tensor(7.0, requires_grad=True)),
    }
    found = Measures(leaves).on_cpu()
    assert found["mean"] == Mean(1.5, 3.0)
    assert found["half"] == Mean(0.5, 2.0)
    assert found["exact"] == Sum(0.1)
    assert (found["least"], found["greatest"]) == (Min(-4.0), Max(7.0))
    assert {type(leaf) for measure in found.values() for leaf in vars(measure).values()} == {float}


def test_no_measures_are_no_numbers():
    assert Measures().values_by_name() == {}


def test_explained_is_one_less_the_share_of_the_variance_that_is_left():
    # Targets 0, 2, 4 have the variance 8/3; the errors 0, 1, 1 the variance 2/9. The masked target is of no account.
    targets, mask = torch.tensor([0.0, 2.0, 4.0, 99.0]), torch.tensor([True, True, True, False])
    whole = Explained.over(torch.tensor([0.0, 1.0, 3.0, -99.0]), targets, mask)
    assert whole.value() == pytest.approx(1 - (2 / 9) / (8 / 3))


def test_explained_adds_up_over_shares_though_it_is_no_mean():
    predictions, targets = torch.rand(2, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(20, dtype=torch.bool)
    parts = [Explained.over(predictions[part], targets[part], ones[part]) for part in (slice(3), slice(3, 4), slice(4, 20))]
    expected = 1 - (targets - predictions).var() / targets.var()
    assert (parts[0] + parts[1] + parts[2]).value() == pytest.approx(expected.item())
    assert Measures({"x": parts[0]}).on_cpu()["x"].value() == pytest.approx(parts[0].value())


@pytest.mark.parametrize("targets", [[], [0.3], [0.3, 0.3, 0.3], [1e8, 1e8]])
def test_targets_that_do_not_differ_have_no_variance_to_explain(targets):
    values = torch.tensor(targets)
    assert math.isnan(Explained.over(values + 1, values, torch.ones(len(targets), dtype=torch.bool)).value())
