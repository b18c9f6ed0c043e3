"""Promises about groups: who is compared with whom, and in which order they come."""

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
    """Return an order in which the numbers go down, beginning somewhere."""
    return [(by - j) % count for j in range(count)]


def _check_group_order(advantage: AdvantageTrial) -> str:
    _skip_if_order_dependent(advantage)
    inputs = advantage.draw()
    whole = advantage.groups(inputs)
    turned = advantage.numbers(examples_of(inputs, EXAMPLE_ORDER))
    return compare_numbers(turned, named([whole[i] for i in EXAMPLE_ORDER]), "With the groups in another order")


def _check_groups_apart(advantage: AdvantageTrial) -> str:
    if advantage.facts.mixes_groups:
        raise NotApplicable("it says that it mixes groups")
    inputs, others = advantage.draw(), advantage.draw(seed=1)
    whole, seen = advantage.groups(inputs), ""
    for own in range(NUM_EXAMPLES):
        company = joined([examples_of(inputs if i == own else others, [i]) for i in range(NUM_EXAMPLES)])
        kept = advantage.groups(company)[own]
        seen = compare_numbers(named([kept]), named([whole[own]]), f"With other rewards in all groups but number {own}")
        alone = advantage.numbers(examples_of(inputs, [own]))
        compare_numbers(alone, named([whole[own]]), f"Without the groups but number {own}")
    return seen


def _skip_if_order_dependent(advantage: AdvantageTrial) -> None:
    if advantage.facts.order_dependent:
        raise NotApplicable("it says that it depends on the order")


GROUPS: tuple[Promise[AdvantageTrial], ...] = (
    Promise(
        "rollout_order",
        "rollouts in another order have the same advantages",
        "Which rollout of an example comes first follows from the engine, and says nothing of what it is worth.",
        "Use no rollout's number. An advantage that keeps a running mean says so with @advantage(order_dependent=True).",
        _check_rollout_order,
    ),
    Promise(
        "group_order",
        "groups in another order have the same advantages",
        "In which order examples come follows from the number of ranks.",
        "Use no group's number. An advantage that keeps a running mean says so with @advantage(order_dependent=True).",
        _check_group_order,
    ),
    Promise(
        "groups_apart",
        "a group's advantages depend on no other group",
        "A prompt would be learnt from by how hard the others of its batch happen to be.",
        "Take means and deviations over dim=1, with keepdim=True. An advantage that is meant to look at the whole batch "
        "says so with @advantage(mixes_groups=True).",
        _check_groups_apart,
    ),
)
