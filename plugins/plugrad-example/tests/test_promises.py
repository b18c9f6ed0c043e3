"""Run the conformance kit on every advantage and metric, one test per check."""

from __future__ import annotations

import plugrad.testing
from plugrad.testing import Check


@plugrad.testing.conformance("plugrad-example/group_quantile", kind="advantage")
def test_group_quantile_keeps_the_promises_of_an_advantage(check: Check) -> None:
    check()


@plugrad.testing.conformance("plugrad-example/solved", kind="metric")
def test_solved_keeps_the_promises_of_a_metric(check: Check) -> None:
    check()
