"""Promises about shares: on which rank a group is, where it stands and what lies beside it must not matter."""

from __future__ import annotations

from plugrad.testing.checks import Promise
from plugrad.testing.metrics.metric_trial import MetricTrial
from plugrad.testing.metrics.trial_shares import (
    NUM_EXAMPLES,
    draw_batch,
    padded,
    places_of,
    shares,
    with_garbage,
    with_rollouts,
)
from plugrad.testing.numbers import compare_numbers

SHARES = ([1, 3], [2, 2], [1] * NUM_EXAMPLES)
GROUP_ORDER = (2, 0, 3, 1)
ROLLOUT_ORDER = (3, 1, 0, 2)
GARBAGE = (1.0, 30.0)


def _check_adds_up(metric: MetricTrial) -> str:
    inputs = draw_batch()
    whole, seen = metric.numbers(inputs), ""
    for sizes in SHARES:
        found = metric.added_up(shares(inputs, sizes))
        seen = compare_numbers(found, whole, f"Added up over ranks with {', '.join(map(str, sizes))} groups")
    return seen


def _check_group_order(metric: MetricTrial) -> str:
    inputs = draw_batch()
    places = places_of(inputs)
    turned = metric.numbers(with_rollouts(inputs, [places[i] for i in GROUP_ORDER]))
    return compare_numbers(turned, metric.numbers(inputs), "With the groups in another order")


def _check_rollout_order(metric: MetricTrial) -> str:
    inputs = draw_batch()
    places = [[group[j] for j in ROLLOUT_ORDER] for group in places_of(inputs)]
    turned = metric.numbers(with_rollouts(inputs, places))
    return compare_numbers(turned, metric.numbers(inputs), "With the rollouts of each group in another order")


def _check_masked_slots(metric: MetricTrial) -> str:
    inputs = draw_batch()
    expected, seen = metric.numbers(inputs), ""
    for garbage in GARBAGE:
        found = metric.numbers(with_garbage(inputs, garbage))
        seen = compare_numbers(found, expected, f"With ±{garbage:g} in the masked slots")
    return seen


def _check_padding(metric: MetricTrial) -> str:
    inputs = draw_batch()
    return compare_numbers(metric.numbers(padded(inputs, 5)), metric.numbers(inputs), "With five more columns of padding")


SHARED: tuple[Promise[MetricTrial], ...] = (
    Promise(
        "adds_up",
        "the shares of several ranks add up to what one rank measures",
        "A mean of means weighs a token by the company it is in: the curves of two runs on other machines could not be "
        "compared.",
        "Return plugrad.Mean.over(values, inputs.loss_mask) or Mean.of(values), which keep total and count apart; Sum, Min "
        "or Max where that is meant. What is greatest in the batch cannot be subtracted before the ranks are put together.",
        _check_adds_up,
    ),
    Promise(
        "group_order",
        "groups in another order give the same numbers",
        "In which order examples come follows from the number of ranks.",
        "Use no group's number.",
        _check_group_order,
    ),
    Promise(
        "rollout_order",
        "rollouts in another order give the same numbers",
        "Which rollout of an example comes first says nothing.",
        "Use no rollout's number; look at the group as a whole.",
        _check_rollout_order,
    ),
    Promise(
        "masked_slots",
        "what is in masked slots changes nothing",
        "Slots of the prompt and of padding were not sampled: they measure nothing.",
        "Measure with plugrad.Mean.over(values, inputs.loss_mask), or values[inputs.loss_mask].",
        _check_masked_slots,
    ),
    Promise(
        "padding",
        "more padding changes nothing",
        "How wide the batch is follows from the longest sequence that happens to be in it.",
        "Count with inputs.loss_mask, never with shape[-1], numel() or mean().",
        _check_padding,
    ),
)
