"""The kit for metrics: each broken one is found by the check that is made for it; correct ones pass."""

import broken_metrics
import pytest
import torch

from plugrad import Explained, Mean, MetricInputs, metric
from plugrad.registry.scan import scan
from plugrad.testing import metric_checks, metric_inputs, rollouts, run_checks

PROCESSES = {"import_effects"}


def results(component, expected_failures=None, **options):
    checks = metric_checks(component, options=options)
    return run_checks([check for check in checks if check.name not in PROCESSES], expected_failures)


def bad(found):
    return {result.check.name for result in found if result.is_bad}


@pytest.mark.parametrize("name", broken_metrics.BROKEN)
def test_a_broken_metric_is_found_by_the_check_made_for_it(name):
    target, expected = broken_metrics.BROKEN[name]
    assert bad(results(target)) == expected


def test_every_check_has_one_that_fails_it():
    checks = {check.name for check in metric_checks("reward")}
    # Those of every kind are tried with losses.
    of_every_kind = {"pickles", "import_effects"}
    assert set().union(*(names for _, names in broken_metrics.BROKEN.values())) == checks - of_every_kind


@pytest.mark.parametrize("entry", scan().of_kind("metric"), ids=lambda entry: f"{entry.package}/{entry.name}")
def test_every_installed_metric_passes(entry):
    assert not bad(results(f"{entry.package}/{entry.name}"))


def test_with_all_that_it_compares_kl_passes_and_its_needs_are_read():
    found = {result.check.name: result for result in results("kl", against=["inference", "old", "reference"])}
    assert not bad(found.values())
    assert found["needs"].seen == "reads old_logprobs, ref_logprobs"


def test_a_metric_that_keeps_its_state_passes():
    assert bad(results(KeptSmoothed)) == set()


class KeptSmoothed(broken_metrics.Smoothed):
    def state_dict(self):
        return {"last": self.last}

    def load_state_dict(self, state):
        self.last = state["last"]


def test_a_metric_may_have_nothing_to_say():
    def silent(inputs: MetricInputs) -> dict[str, Mean]:
        return {}

    assert bad(results(metric()(silent))) == {"pickles"}


def test_rounding_that_no_comparison_shows_is_reported_and_not_failed():
    def of_the_rollouts(inputs: MetricInputs) -> dict[str, Mean]:
        return {"reward": Mean.of(torch.tensor([rollout["reward"] for group in inputs.rollouts for rollout in group]))}

    found = {result.check.name: result for result in results(metric()(of_the_rollouts))}
    assert bad(found.values()) == {"pickles"}
    assert found["precision"].seen.startswith("rounded to float32 (")


def test_the_inputs_are_those_of_the_rollouts():
    groups = rollouts([[1.0, 0.0], [0.5, 0.5]], lengths=[[3, 1], [2, 4]])
    inputs = metric_inputs(groups, step=7)
    assert inputs.loss_mask.sum(dim=1).tolist() == [3, 1, 2, 4]
    assert not inputs.loss_mask[:, :2].any()
    assert inputs.rewards.tolist() == [1.0, 0.0, 0.5, 0.5]
    assert inputs.group_ids.tolist() == [0, 0, 1, 1]
    assert inputs.step == 7
    for field in ("trainer_logprobs", "inference_logprobs", "entropy", "old_logprobs", "ref_logprobs"):
        values = getattr(inputs, field)
        assert values[inputs.loss_mask].all()
        assert not values[~inputs.loss_mask].any()
    # The reward minus the mean of the group, at every counted token.
    assert inputs.advantages.sum(dim=1).tolist() == [1.5, -0.5, 0.0, 0.0]
    zeros = torch.zeros(4, 6, dtype=torch.double)
    assert metric_inputs(groups, advantages=zeros).advantages is zeros


def test_a_variance_which_a_shift_leaves_alone_reads_its_needs():
    @metric(needs={"old_values", "returns"})
    def explained(inputs: MetricInputs) -> dict[str, Explained]:
        return {"share": Explained.over(inputs.old_values, inputs.returns, inputs.loss_mask)}

    assert "needs" not in bad(results(explained))
