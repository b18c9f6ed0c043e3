"""Promises about groups: which rollouts are compared, and in which order they come."""

from __future__ import annotations

from plugrad.testing.advantages.advantage_trial import AdvantageTrial, named
from plugrad.testing.advantages.trial_groups import NUM_EXAMPLES, examples_of, in_order, joined
from plugrad.testing.checks import NotApplicable, Promise
from plugrad.testing.numbers import compare_numbers

EXAMPLE_ORDER = (2, 0, 1)


def _check_rollout_order(advantage: AdvantageTrial) -> str:
    _skip_if_order_dependent(advantage)
    inputs = advantage.draw()
    whole = advantage.groups(inputs)
    orders = [_turned(len(group), by=i + 1) for i, group in enumerate(whole)]
    expected = [[group[j] for j in order] for group, order in zip(whole, orders, strict=True)]
    turned = advantage.numbers(in_order(inputs, orders))
    return compare_numbers(turned, named(expected), "With the rollouts of each group in another order")


def _turned(count: int, by: int) -> list[int]:
    """Return the indices in descending order, starting at a different one for each `by`."""
    return [(by - j) % count for j in range(count)]


def _check_group_order(advantage: AdvantageTrial) -> str:
    _skip_if_order_dependent(advantage)
    inputs = advantage.draw()
    whole = advantage.groups(inputs)
    turned = advantage.numbers(examples_of(inputs, EXAMPLE_ORDER))
    return compare_numbers(turned, named([whole[i] for i in EXAMPLE_ORDER]), "With the groups in another order")


def _check_groups_apart(advantage: AdvantageTrial) -> str:
    if advantage.facts.mixes_groups:
        raise NotApplicable("it declares mixes_groups")
    inputs, others = advantage.draw(), advantage.draw(seed=1)
    whole, seen = advantage.groups(inputs), ""
    for own in range(NUM_EXAMPLES):
        company = joined([examples_of(inputs if i == own else others, [i]) for i in range(NUM_EXAMPLES)])
        kept = advantage.groups(company)[own]
        seen = compare_numbers(named([kept]), named([whole[own]]), f"With other rewards in all groups but number {own}")
        alone = advantage.numbers(examples_of(inputs, [own]))
        compare_numbers(alone, named([whole[own]]), f"With group {own} alone")
    return seen


def _skip_if_order_dependent(advantage: AdvantageTrial) -> None:
    if advantage.facts.order_dependent:
        raise NotApplicable("it declares order_dependent")


GROUPS: tuple[Promise[AdvantageTrial], ...] = (
    Promise(
        "groups_apart",
        "a group's advantages depend on no other group",
        "Otherwise the signal of a prompt depends on how hard the other prompts of its batch are.",
        "Take means and deviations over dim=1 with keepdim=True. An advantage that looks at the whole batch on purpose "
        "declares @advantage(mixes_groups=True).",
        _check_groups_apart,
    ),
    Promise(
        "rollout_order",
        "the order of rollouts in a group does not matter",
        "The engine decides which rollout comes first. The order carries no information.",
        "Do not use a rollout's index. An advantage with a running mean declares @advantage(order_dependent=True).",
        _check_rollout_order,
        after=("groups_apart",),
    ),
    Promise(
        "group_order",
        "the order of groups does not matter",
        "The order of examples depends on the number of ranks.",
        "Do not use a group's index. An advantage with a running mean declares @advantage(order_dependent=True).",
        _check_group_order,
        after=("groups_apart",),
    ),
)
