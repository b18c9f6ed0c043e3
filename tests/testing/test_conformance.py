"""The pytest decorator over the checks, as an author's own tests use it."""

import os
from pathlib import Path
from uuid import uuid4

import pytest

from plugrad import AdvantageInputs, PluginError, loss
from plugrad.testing import conformance
from plugrad.testing.components import kind_of

HERE = Path(__file__).parent
BROKEN = HERE / "broken_losses.py"


class Reports:
    """A pytest plugin that keeps what came of each test."""

    def __init__(self):
        self.outcomes = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.skipped:
            self.outcomes[report.nodeid.partition("[")[2].rstrip("]")] = getattr(report, "wasxfail", None) or report.outcome


def outcomes_of(tests, folder):
    # pytest imports a file of one name once.
    path = folder / f"test_{uuid4().hex}.py"
    path.write_text(tests)
    reports = Reports()
    arguments = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)]
    exit_code = pytest.main([str(path), *arguments], plugins=[reports])
    return exit_code, reports.outcomes


def written(name, *arguments):
    asked = ", ".join([repr(f"{BROKEN}:{name}"), *arguments])
    return f"from plugrad.testing import conformance\n\n@conformance({asked})\ndef test_it(check):\n    check()\n"


def test_each_check_is_a_test_of_its_own(tmp_path):
    exit_code, outcomes = outcomes_of(written("divides_by_its_own_counts", "strict=True"), tmp_path)
    assert exit_code == pytest.ExitCode.TESTS_FAILED
    assert {name for name, outcome in outcomes.items() if outcome == "failed"} == {"micro_batches"}
    assert outcomes["padding"] == "passed"
    assert outcomes["masked_nan"] == "passed"
    assert outcomes["zero_advantage"] == "skipped"


def test_a_declared_failure_passes_until_it_no_longer_fails(tmp_path):
    declared = "expected_failures={'micro_batches': 'a', 'one_rank_equals_two': 'b'}"
    exit_code, outcomes = outcomes_of(written("divides_by_its_own_counts", declared), tmp_path)
    assert exit_code == pytest.ExitCode.OK
    assert outcomes["micro_batches"] == "a"
    exit_code, outcomes = outcomes_of(written("pushes_the_prompt", "expected_failures={'padding': 'a'}"), tmp_path)
    assert exit_code == pytest.ExitCode.TESTS_FAILED
    assert outcomes["padding"] == "failed"


def test_a_failure_that_no_check_has_is_an_error():
    with pytest.raises(PluginError, match="'micro_batch' is declared as an expected failure, but there is no such check"):
        conformance("ppo_clip", expected_failures={"micro_batch": "why not"})


def test_the_kind_is_seen_from_the_marker_the_first_parameter_or_the_methods():
    def by_parameter(inputs: "AdvantageInputs"):
        """As under `from __future__ import annotations`."""

    @loss()
    def by_marker(inputs):
        """Marked."""

    class ByMethods:
        train_examples = eval_examples = score = None

    class ByPlaying:
        train_examples = eval_examples = play = None

    assert [kind_of(given) for given in (by_parameter, by_marker)] == ["advantage", "loss"]
    assert [kind_of(given) for given in (ByMethods, ByPlaying)] == ["environment"] * 2
    assert [kind_of(name) for name in ("ppo_clip", "group_mean", "arithmetic", "nan_guard")] == [
        "loss",
        "advantage",
        "environment",
        "extension",
    ]
    assert kind_of("plugrad.standard.extensions.nan_guard:NanGuard") == "extension"


def test_what_could_be_anything_is_an_error():
    with pytest.raises(PluginError, match="the kind of 'len' is not clear"):
        kind_of(len)
    with pytest.raises(PluginError, match="no plugin of any kind is called"):
        kind_of("nothing")
