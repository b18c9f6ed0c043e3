"""Every loss of plugrad-policy: the update is the same, however its batch is cut."""

from dataclasses import replace

import pytest
from accelerate import Accelerator
from scenario import ALL_AT_ONCE, Scenario, assert_same, three_steps

from plugrad import load
from plugrad.registry.scan import scan

PACKAGE = "plugrad-policy"
LOSSES = {
    entry.name: load("loss", f"{PACKAGE}/{entry.name}") for entry in scan().of_kind("loss") if entry.package == PACKAGE
}
MIXING = {
    "clip_cov": {"fraction": 0.3, "cov_low": -10.0, "cov_high": 10.0},
    "kl_cov": {"fraction": 0.3},
    "top_entropy_quantile": {"quantile": 0.3},
    "entropy_quantile_bonus": {"quantile": 0.6},
    "m2po": {"threshold": 1e-3},
    "real": {},
    "raft": {},
    "a_star_po": {"beta2": 0.1},
    "positive_nll": {},
}
"""Losses that compare tokens or sequences of the whole batch, with options by which they choose a good part of them."""

TAUGHT = {name for name, loss in LOSSES.items() if "teacher_logprobs" in loss.bound.component.needs}
BESIDE = ("importance_sampling", 0.1, "token")
"""Takes the policy away from the reference, where the divergence between them has no gradient."""


@pytest.mark.parametrize("name", LOSSES)
def test_the_cut_changes_nothing(name):
    reduction = LOSSES[name].reduction
    terms, teachers = ((f"{PACKAGE}/{name}", 1.0, reduction), BESIDE), ("one",) if name in TAUGHT else ()
    scenario = Scenario(seed=11, terms=terms, updates_per_batch=2, teachers=teachers)
    found, whole = (three_steps(replace(scenario, budget=budget), Accelerator(cpu=True)) for budget in (30, ALL_AT_ONCE))
    assert found.num_micro_batches > whole.num_micro_batches == 1
    assert whole.records[-1][f"{name}/{reduction}/loss"] != 0
    assert_same(found, whole)


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("alike", [False, True])
def test_which_tokens_of_the_batch_are_chosen_does_not_depend_on_the_cut(name, alike):
    # Tokens after the same text are equal but for rounding, which the padding beside them changes.
    terms = ((f"{PACKAGE}/{name}", 1.0, "sequence"), BESIDE)
    scenario = Scenario(seed=11, terms=terms, options=tuple(MIXING[name].items()), updates_per_batch=2, alike=alike)
    expected = three_steps(scenario, Accelerator(cpu=True))
    for budget, extra_padding in ((30, 0), (45, 3)):
        found = three_steps(replace(scenario, budget=budget, extra_padding=extra_padding), Accelerator(cpu=True))
        assert found.num_micro_batches > expected.num_micro_batches == 1
        assert_same(found, expected)


def test_these_are_all_that_mix_sequences():
    assert MIXING.keys() == {name for name, loss in LOSSES.items() if loss.bound.component.facts.mixes_sequences}
    assert not any(loss.bound.component.facts.cut_dependent for loss in LOSSES.values())
