"""Promises about shares: the rank, place and neighbours of a group must not matter."""

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
        "group_order",
        "the order of groups does not matter",
        "The order of examples depends on the number of ranks.",
        "Do not use a group's index.",
        _check_group_order,
    ),
    Promise(
        "adds_up",
        "the shares of several ranks add up to the numbers of one rank",
        "A mean of means weighs a token by the share it is in, so runs on different machines cannot be compared.",
        "Return plugrad.Mean.over(values, inputs.loss_mask) or Mean.of(values), which keep total and count apart. Use Sum, "
        "Min or Max if you mean that. Do not subtract the maximum of a batch: ranks are added up later.",
        _check_adds_up,
        after=("group_order",),
    ),
    Promise(
        "rollout_order",
        "the order of rollouts in a group does not matter",
        "The order carries no information.",
        "Do not use a rollout's index. Look at the group as a whole.",
        _check_rollout_order,
    ),
    Promise(
        "masked_slots",
        "the contents of masked slots change nothing",
        "Prompt and padding slots were not sampled, so they measure nothing.",
        "Use plugrad.Mean.over(values, inputs.loss_mask), or values[inputs.loss_mask].",
        _check_masked_slots,
    ),
    Promise(
        "padding",
        "more padding changes nothing",
        "A batch is as wide as its longest sequence.",
        "Count with inputs.loss_mask, never with shape[-1], numel() or mean().",
        _check_padding,
    ),
)
