"""The kit for losses with parameters of their own: a broken one is found by its check, and correct ones pass."""

from pathlib import Path

import pytest
import training_losses

from plugrad.testing import Outcome, loss_checks, run_checks

HERE = Path(__file__).parent
PROCESSES = {"import_effects", "one_rank_equals_two"}
"""The checks that start processes: seconds each."""


def results(name, checks=None):
    found = loss_checks(f"{HERE / 'training_losses.py'}:{name}")
    return {r.check.name: r for r in run_checks([c for c in found if c.name in (checks or {c.name} - PROCESSES)])}


@pytest.mark.parametrize("name", training_losses.BROKEN)
def test_a_broken_loss_is_found_by_the_check_made_for_it(name):
    _, expected = training_losses.BROKEN[name]
    assert {name for name, result in results(name).items() if result.outcome is Outcome.FAILED} == expected


@pytest.mark.parametrize(
    ("name", "check", "words"),
    [
        ("LeavesOneOut", "parameters", "with respect to inputs.parameters['unused'] is zero in every batch"),
        ("RegularisesEachMicroBatch", "parameters_over_cuts", "the gradient of inputs.parameters['s'] at 0"),
        ("CallsTheModuleItself", "runs", "functional_call(self.module, inputs.parameters, x) instead of self.module(x)"),
        ("ReadsWhatItDidNotMake", "runs", "inputs.parameters is None"),
    ],
)
def test_its_words(name, check, words):
    result = results(name, {"runs", "micro_batches", check})[check]
    assert words in result.seen


@pytest.mark.parametrize("name", [target.__name__ for target in training_losses.CORRECT])
def test_a_correct_loss_passes(name):
    found = results(name)
    assert not [(result.check.name, result.seen) for result in found.values() if result.is_bad]
    assert found["parameters"].outcome is Outcome.KEPT
    mixes = name == "Contrast"
    assert found["parameters_over_cuts"].outcome is (Outcome.NOT_APPLICABLE if mixes else Outcome.KEPT)


@pytest.mark.parametrize("name", [target.__name__ for target in training_losses.CORRECT])
def test_two_ranks_do_what_one_does(name):
    assert results(name, {"one_rank_equals_two"})["one_rank_equals_two"].outcome is Outcome.KEPT
