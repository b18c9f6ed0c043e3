"""Calling metrics: one that fails costs the others nothing, and the run nothing."""

import logging
import re
from dataclasses import replace

import pytest
import torch

from plugrad import ContractError, Max, Mean, metric
from plugrad.contracts.needs import METRIC_NEEDS
from plugrad.host.metric import BoundMetric, compute_metric, compute_metrics
from plugrad.host.watched_inputs import Watch


@pytest.fixture
def bound(component):
    """Bind a function as a metric."""

    def make(target, label=None):
        made = component(target, kind="metric")
        return BoundMetric(made, made.create(), label or target.__name__)

    return make


def steady(inputs):
    return {"x": 2.0}


def test_names_are_prefixed_with_the_label(bound, metric_inputs):
    def three(inputs):
        return {"mean": inputs.rewards, "share": 0.5, "max": Max(inputs.rewards.max())}

    measures = compute_metric(bound(three, "three_2"), metric_inputs)
    assert measures.values_by_name() == {"three_2/mean": 0.5, "three_2/share": 0.5, "three_2/max": 1.0}
    assert measures["three_2/share"] == Mean(1.0, 2.0)


def test_a_metric_may_have_nothing_to_say(bound, metric_inputs):
    assert len(compute_metric(bound(lambda inputs: {}, "silent"), metric_inputs)) == 0


@pytest.mark.parametrize("needs", [set(), {"entropy"}, {"old_logprobs", "ref_logprobs"}])
def test_a_metric_sees_only_what_it_asked_for(bound, metric_inputs, needs):
    seen = []

    @metric(needs=needs)
    def asking(inputs):
        seen.extend(name for name in METRIC_NEEDS if getattr(inputs, name) is not None)
        return {}

    compute_metric(bound(asking), metric_inputs)
    assert set(seen) == needs


def test_metrics_run_without_gradient(bound, metric_inputs):
    weight = torch.ones(1, requires_grad=True)

    def watching(inputs):
        assert not (weight * 2).requires_grad
        return {"x": 1.0}

    assert compute_metric(bound(watching), metric_inputs).values_by_name() == {"watching/x": 1.0}


@pytest.mark.parametrize("returned", [None, 0.5, [("x", 1.0)]])
def test_what_is_no_mapping_is_refused_with_its_owner(bound, metric_inputs, returned):
    def wrong(inputs):
        return returned

    with pytest.raises(
        ContractError, match=rf"the metric 'wrong' \(mine\) returned {type(returned).__name__}; a metric retu"
    ):
        compute_metric(bound(wrong), metric_inputs)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (1, r"1; a name is text"),
        (None, r"None; a name is text"),
        ("", r"''; a name has 1 to 200 characters that all print"),
        ("a\nb", r"'a\\nb'; a name has"),
        ("\x1b[31m", r"'\\x1b\[31m'; a name has"),
        ("\ud800", r"'\\ud800'; a name has"),
        ("x" * 201, r"'x+'\.\.\. \(201 characters\); a name has"),
    ],
)
def test_a_name_that_no_record_can_hold_is_refused(bound, metric_inputs, name, found):
    def wrong(inputs):
        return {name: 1.0}

    with pytest.raises(ContractError, match=rf"the metric 'wrong' \(mine\) returned a metric named {found}"):
        compute_metric(bound(wrong), metric_inputs)


def test_a_value_that_is_no_number_is_refused_with_its_name(bound, metric_inputs):
    def wrong(inputs):
        return {"fine": 1.0, "kl": inputs.advantages}

    with pytest.raises(
        ContractError, match=r"'wrong' \(mine\) returned 'kl': .* this is a tensor of float32 of shape \[2, 3\]"
    ):
        compute_metric(bound(wrong), metric_inputs)


def test_a_metric_that_fails_is_reported_and_the_others_run(bound, metric_inputs, caplog):
    def failing(inputs):
        raise ZeroDivisionError("nothing counted")

    with caplog.at_level(logging.WARNING, "plugrad"):
        measures = compute_metrics([bound(failing), bound(steady)], metric_inputs)
    assert measures.values_by_name() == {"steady/x": 2.0}
    (said,) = caplog.messages
    assert re.fullmatch(
        r"the metric 'failing' \(mine\) raised ZeroDivisionError: nothing counted \(.*test_metric\.py:\d+\)", said
    )


@pytest.mark.parametrize("then_raises", [False, True])
def test_what_a_metric_does_to_the_rollouts_is_its_error_alone_and_the_next_sees_them_as_sampled(
    bound, metric_inputs, caplog, then_raises
):
    def spoils(inputs):
        inputs.rollouts[0][0]["completion_ids"].clear()
        inputs.rollouts[0].pop()
        return {"x": 1.0 / (0 if then_raises else 1)}

    def tokens(inputs):
        return {"tokens": float(sum(len(rollout["completion_ids"]) for group in inputs.rollouts for rollout in group))}

    expected = tokens(metric_inputs)["tokens"]
    measures = compute_metrics([bound(spoils), bound(tokens), bound(spoils), bound(tokens)], metric_inputs)
    assert measures.values_by_name() == {"tokens/tokens": expected}
    assert len(caplog.messages) == 2
    assert all("'spoils'" in message for message in caplog.messages)


def test_a_metric_is_switched_off_after_three_failures(bound, metric_inputs, caplog):
    calls = []

    def failing(inputs):
        calls.append(inputs)
        raise ValueError("again")

    metrics = [bound(failing), bound(steady)]
    with caplog.at_level(logging.WARNING, "plugrad"):
        for _ in range(5):
            assert compute_metrics(metrics, metric_inputs).values_by_name() == {"steady/x": 2.0}
    assert len(calls) == 3
    assert [message.endswith("; it is switched off") for message in caplog.messages] == [False, False, True]
    assert all("raised ValueError: again (" in message for message in caplog.messages)


def test_what_a_failing_metric_had_measured_is_dropped(bound, metric_inputs):
    def half(inputs):
        return {"fine": 1.0, "wrong": "x"}

    assert dict(compute_metrics([bound(half)], metric_inputs)) == {}


def test_a_fresh_metric_has_no_state_and_no_failures(component, metric_inputs):
    class Counting:
        def __init__(self):
            self.calls = 0

        def __call__(self, inputs):
            self.calls += 1
            return {"calls": float(self.calls)}

    made = component(Counting, kind="metric")
    used = BoundMetric(made, made.create(), "counting", failures=2)
    compute_metric(used, metric_inputs)
    fresh = used.fresh()
    assert compute_metric(fresh, metric_inputs).values_by_name() == {"counting/calls": 1.0}
    assert (fresh.failures, fresh.label) == (0, "counting")


def test_what_a_metric_reads_is_seen_and_what_was_not_computed_is_refused(bound, metric_inputs):
    def now_and_then(inputs):
        return {"x": inputs.trainer_logprobs.sum() if inputs.step else inputs.rewards.mean()}

    def through_the_attributes(inputs):
        return {"x": float(len(vars(inputs)))}

    seen = Watch()
    compute_metric(bound(now_and_then).relabelled("eval/x", seen), metric_inputs)
    assert seen.noted == {"step", "rewards"}
    compute_metric(bound(through_the_attributes).relabelled("eval/x", seen), metric_inputs)
    assert seen.noted >= {"trainer_logprobs", "advantages"}

    lacking = bound(now_and_then).relabelled("eval/x", Watch("the metric 'x'", frozenset({"trainer_logprobs"})))
    assert list(compute_metric(lacking, metric_inputs)) == ["eval/x/x"]
    with pytest.raises(ContractError, match=r"'x' reads inputs.trainer_logprobs of held-out .*needs=\{'trainer_logprobs'\}"):
        compute_metric(lacking, replace(metric_inputs, step=1))
