"""The kit for extensions: each broken one is found by the check that is made for it; correct ones pass."""

from dataclasses import replace
from pathlib import Path

import broken_extensions
import pytest

from plugrad import hookimpl
from plugrad.registry.scan import scan
from plugrad.testing import Outcome, extension_checks, run_checks

PROCESSES = {"import_effects"}
HERE = Path(__file__).parent
OPTIONS = [
    ("mismatch_correction", {"level": "sequence", "mode": "mask", "high": 3.0}),
    ("mismatch_correction", {"level": "geometric", "mode": "reject", "low": 0.99, "high": 1.01, "veto_below": 1e-4}),
    ("nan_guard", {"action": "stop"}),
]


def results(component, **options):
    checks = extension_checks(component, options=options)
    return {r.check.name: r for r in run_checks([check for check in checks if check.name not in PROCESSES])}


def bad(found):
    return {name for name, result in found.items() if result.is_bad}


@pytest.mark.parametrize("name", broken_extensions.BROKEN)
def test_a_broken_extension_is_found_by_the_check_made_for_it(name):
    _, expected = broken_extensions.BROKEN[name]
    assert bad(results(f"{HERE / 'broken_extensions.py'}:{name}")) == expected


def test_every_check_has_one_that_fails_it():
    checks = {check.name for check in extension_checks("timing")}
    found = set().union(*(names for _, names in broken_extensions.BROKEN.values()))
    assert found == checks - {"import_effects"}


@pytest.mark.parametrize("entry", scan().of_kind("extension"), ids=lambda entry: f"{entry.package}/{entry.name}")
def test_every_installed_extension_passes(entry):
    assert not bad(results(f"{entry.package}/{entry.name}"))


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_they_pass_with_other_options_too(name, options):
    assert not bad(results(name, **options))


def test_what_a_guard_answers_is_reported_and_how_it_ends_a_run(caplog):
    seen = results("nan_guard")["before_update"].seen
    assert "grad_norm 1, loss 0.5: continues; grad_norm nan, loss nan: skips the update" in seen
    stops = results("nan_guard", action="stop")["before_update"].seen
    assert "grad_norm nan, loss nan: stops the run (nan_guard stopped the run" in stops
    assert not caplog.records


def test_dropped_tokens_are_counted_and_one_that_drops_all_is_not_asked_for_a_gradient():
    found = results(DropsEverything)
    assert not bad(found)
    assert found["counts_nothing_new"].seen == "41 of 41 tokens dropped, none added"
    assert found["gradient"].outcome is Outcome.NOT_APPLICABLE


class DropsEverything:
    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        inputs = yield
        return replace(inputs, loss_mask=inputs.loss_mask & False)


def test_one_that_is_defined_in_a_function_has_no_run_of_its_own():
    class Counts:
        @hookimpl
        def on_step_end(self, step):
            pass

    found = results(Counts)
    assert bad(found) == {"pickles"}
    assert found["run"].outcome is Outcome.NOT_APPLICABLE


def test_the_columns_that_the_author_names_are_there_in_the_run_too(tmp_path):
    path = tmp_path / "reads.py"
    path.write_text(READS_A_COLUMN)
    checks = extension_checks(f"{path}:Reads", example={"difficulty": 2.0})
    [result] = run_checks([each for each in checks if each.name == "run"])
    assert result.outcome is Outcome.KEPT, result.seen


READS_A_COLUMN = """
import plugrad


class Reads:
    @plugrad.hookimpl(wrapper=True)
    def prepare_advantages(self, inputs):
        for group in inputs.rollouts:
            for rollout in group:
                assert rollout["example"]["difficulty"] == 2.0
        return (yield)
"""
