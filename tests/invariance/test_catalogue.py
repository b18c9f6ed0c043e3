"""Every loss of plugrad-policy that does not say that it depends on the cut: the update is the same, however it is cut."""

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
INDEPENDENT = [name for name, loss in LOSSES.items() if not loss.bound.component.facts.cut_dependent]


BESIDE = ("importance_sampling", 0.1, "token")
"""Takes the policy away from the reference, where the divergence between them has no gradient."""


@pytest.mark.parametrize("name", INDEPENDENT)
def test_the_cut_changes_nothing(name):
    reduction = LOSSES[name].reduction
    scenario = Scenario(seed=11, terms=((f"{PACKAGE}/{name}", 1.0, reduction), BESIDE), updates_per_batch=2)
    found, whole = (three_steps(replace(scenario, budget=budget), Accelerator(cpu=True)) for budget in (30, ALL_AT_ONCE))
    assert found.num_micro_batches > whole.num_micro_batches == 1
    assert whole.records[-1][f"{name}/{reduction}/loss"] != 0
    assert_same(found, whole)
