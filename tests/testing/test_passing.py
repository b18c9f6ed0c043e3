"""The kit for losses with further passes: a broken one is found, and correct ones pass."""

from pathlib import Path

import passing_losses
import pytest

from plugrad.testing import Outcome, loss_checks, run_checks

HERE = Path(__file__).parent
PROCESSES = {"import_effects", "one_rank_equals_two"}
"""The checks that start processes: seconds each."""
WORDS = {
    "calls_twice": ["calls inputs.again twice", "declares passes=2", "passes=3"],
    "divides_by_no_sensitivity": ["a shift that is not finite", "normalize(g, dim=-1)"],
    "never_calls": ["a change of again gives the same"],
}


def results(name, checks=None):
    found = loss_checks(f"{HERE / 'passing_losses.py'}:{name}")
    return {r.check.name: r for r in run_checks([c for c in found if c.name in (checks or {c.name} - PROCESSES)])}


@pytest.mark.parametrize("name", passing_losses.BROKEN)
def test_a_broken_loss_is_found(name):
    found = {check: result for check, result in results(name).items() if result.outcome is Outcome.FAILED}
    assert set(found) >= passing_losses.BROKEN[name]
    seen = " ".join(f"{result.seen} {result.fix}" for result in found.values())
    assert all(words in seen for words in WORDS.get(name, []))


@pytest.mark.parametrize("name", [target.__name__ for target in passing_losses.CORRECT])
def test_a_correct_loss_passes(name):
    found = results(name)
    assert not [(result.check.name, result.seen) for result in found.values() if result.is_bad]
    assert found["gradcheck"].outcome is Outcome.KEPT
    assert found["micro_batches"].outcome is Outcome.KEPT


@pytest.mark.parametrize("name", ["adversarial", "two_steps"])
def test_two_ranks_do_what_one_does(name):
    assert results(name, {"one_rank_equals_two"})["one_rank_equals_two"].outcome is Outcome.KEPT
