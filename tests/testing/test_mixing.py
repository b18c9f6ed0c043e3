"""The kit for losses that see the whole batch: a broken one is found by the check made for it, and correct ones pass."""

from pathlib import Path

import mixing_losses
import pytest

from plugrad.testing import Outcome, loss_checks, run_checks
from plugrad.testing.losses.trial_micro_batches import draw_micro_batch

HERE = Path(__file__).parent
PROCESSES = {"import_effects", "one_rank_equals_two"}
"""The checks that start processes: seconds each."""


def results(name, checks=None):
    found = loss_checks(f"{HERE / 'mixing_losses.py'}:{name}")
    return {r.check.name: r for r in run_checks([c for c in found if c.name in (checks or {c.name} - PROCESSES)])}


@pytest.mark.parametrize("name", mixing_losses.BROKEN)
def test_a_broken_loss_is_found_by_the_check_made_for_it(name):
    check, expected = mixing_losses.BROKEN[name]
    found = results(name, {check} if check in PROCESSES else None)
    assert {name for name, result in found.items() if result.outcome is Outcome.FAILED} == expected


@pytest.mark.parametrize("name", [target.__name__ for target in mixing_losses.CORRECT])
def test_a_correct_loss_passes(name):
    found = results(name)
    assert not [(result.check.name, result.seen) for result in found.values() if result.is_bad]
    draws = name == "drops_half_at_random"
    assert found["row_order"].outcome is (Outcome.NOT_APPLICABLE if draws else Outcome.KEPT)
    assert found["nothing_to_compare"].outcome is Outcome.KEPT
    assert found["micro_batches"].seen == "it declares whole_batch"


@pytest.mark.parametrize("name", ["contrastive", "drops_half_at_random"])
def test_two_ranks_do_what_one_does(name):
    assert results(name, {"one_rank_equals_two"})["one_rank_equals_two"].outcome is Outcome.KEPT


def test_the_trials_rollouts_know_their_place_in_the_group():
    assert draw_micro_batch().member.tolist() == [0, 1, 2, 0, 1, 0, 1]
