"""Promises about rewards: all equal, shifted, scaled, or NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.errors import InputsChanged, PlugradError
from plugrad.testing.advantages.advantage_trial import AdvantageTrial, Groups, named
from plugrad.testing.advantages.trial_groups import exchanged, in_single_precision, scaled, shifted, with_nan, zero_or_one
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.numbers import Numbers, are_same, compare_numbers

EQUAL = (0.0, 0.1, 1.0, -3.0)
ROUNDED = (0.1, 1 / 3, 35.1, -7.7, 1234.56, 1e6 / 3)
NO_SIGNAL = 1e-6
SHIFT, SCALE = 10.0, 10.0
ROUGHLY = 1e-3
"""An advantage that divides by a deviation adds a small number to it."""
EXCHANGED = ((0.0, 1.0), (0.0, 0.5), (0.5, 1.0))
"""The ranks of two rollouts in their group, between 0 for the lowest reward and 1 for the highest."""
NOTHING = 1e-9
AMPLIFIED = 0.1
"""Of the usual advantage of 1. A rounding of 4e-6, as at a reward of 35, is 0.04 where a deviation has 1e-4 added to it."""
SPOILT = (1, 2)
EQUAL_LENGTHS = (5,)


def _check_equal_rewards(advantage: AdvantageTrial) -> str:
    found = {reward: advantage.numbers(advantage.draw(reward=reward)) for reward in EQUAL}
    largest = max(abs(value) for numbers in found.values() for value in numbers.values())
    if advantage.facts.signal_from_equal_rewards:
        return f"declared to have a signal: up to {largest:.3g}"
    for reward, numbers in found.items():
        name, value = max(numbers.items(), key=lambda item: abs(item[1]))
        if not abs(value) <= NO_SIGNAL:
            raise Broken(f"if every reward is {reward:g}, {name} is {value:.6g}")
    return f"{largest:.0e} at most" if largest else "all 0"


def _check_rounded_rewards(advantage: AdvantageTrial) -> str:
    if advantage.facts.signal_from_equal_rewards:
        raise NotApplicable("it declares signal_from_equal_rewards")
    largest = 0.0
    for reward in ROUNDED:
        inputs = in_single_precision(advantage.draw(reward=reward))
        name, value = max(advantage.numbers(inputs).items(), key=lambda item: abs(item[1]))
        if not abs(value) <= max(AMPLIFIED, NO_SIGNAL * abs(reward)):
            raise Broken(f"if every reward is {reward:g} in float32, {name} is {value:.6g}")
        largest = max(largest, abs(value))
    return f"{largest:.0e} at most" if largest else "all 0"


def _check_reward_order(advantage: AdvantageTrial) -> str:
    if advantage.facts.opposes_rewards:
        raise NotApplicable("it declares opposes_rewards")
    kinds = {"": advantage.draw(), " of 0 and 1": zero_or_one(advantage.draw())}
    largest = max(_gain(advantage, inputs, ranks, what) for what, inputs in kinds.items() for ranks in EXCHANGED)
    if not largest:
        raise NotApplicable("no advantage changes with the order of rewards")
    return f"a better reward adds up to {largest:.3g}"


def _gain(advantage: AdvantageTrial, inputs: AdvantageInputs, ranks: tuple[float, float], what: str) -> float:
    """Return the most that a rollout gains by exchanging its reward for a better one in its group. None may lose."""
    places = [_places(rewards, ranks) for rewards in inputs.rewards.tolist()]
    before, after = advantage.groups(inputs), advantage.groups(exchanged(inputs, places))
    largest = 0.0
    for group, (lower, higher) in enumerate(places):
        for place, worse, better in ((lower, before, after), (higher, after, before)):
            bad, good = _mean(worse[group][place]), _mean(better[group][place])
            if good < bad - NOTHING * max(1.0, abs(bad)):
                raise Broken(
                    f"with rewards{what}, rollout {place} of example {group} has the advantage {bad:.6g} with the lower "
                    f"reward of two rollouts, and {good:.6g} with the higher one"
                )
            largest = max(largest, good - bad)
    return largest


def _places(rewards: Sequence[float], ranks: tuple[float, float]) -> tuple[int, int]:
    """Return where the rewards of these ranks are: 0 is the lowest, 1 the highest."""
    order = sorted(range(len(rewards)), key=lambda j: rewards[j])
    low, high = (order[round(rank * (len(order) - 1))] for rank in ranks)
    return low, high


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _check_scale_and_shift(advantage: AdvantageTrial) -> str:
    inputs = advantage.draw()
    numbers = advantage.numbers(inputs)
    by_shift = _effect(advantage, shifted(inputs, SHIFT), numbers)
    by_scale = _effect(advantage, scaled(inputs, SCALE), numbers)
    return f"rewards + {SHIFT:g}: {by_shift}; rewards x {SCALE:g}: {by_scale}"


def _effect(advantage: AdvantageTrial, inputs: AdvantageInputs, before: Numbers) -> str:
    try:
        after = advantage.numbers(inputs)
    except InputsChanged:
        raise
    except PlugradError as error:
        return f"refused ({error})"
    if are_same(after, before, ROUGHLY):
        return "unchanged"
    times = {name: SCALE * value for name, value in before.items()}
    return f"advantages x {SCALE:g}" if are_same(after, times, ROUGHLY) else "other advantages"


def _check_nan_reward(advantage: AdvantageTrial) -> str:
    inputs = advantage.draw(lengths=EQUAL_LENGTHS)
    clean = advantage.groups(inputs)
    if clean == advantage.groups(advantage.draw(seed=1, lengths=EQUAL_LENGTHS)):
        raise NotApplicable("it does not look at rewards")
    try:
        groups = advantage.unchecked(with_nan(inputs, SPOILT))
    except InputsChanged:
        raise
    except PlugradError as error:
        return f"refused: {error}"
    own = groups[SPOILT[0]][SPOILT[1]]
    if all(map(math.isfinite, own)):
        raise Broken(f"a rollout with a NaN reward gets the advantage {own[0]:.6g}, which hides the NaN")
    if advantage.facts.mixes_groups:
        return "not finite, which plugrad rejects"
    compare_numbers(_others(groups), _others(clean), "With a NaN reward in group 1")
    return "not finite, which plugrad rejects; the other groups are unchanged"


def _others(groups: Groups) -> Numbers:
    return named([group if i != SPOILT[0] else [] for i, group in enumerate(groups)])


REWARDS: tuple[Promise[AdvantageTrial], ...] = (
    Promise(
        "equal_rewards",
        "equal rewards give no advantage, unless it declares otherwise",
        "Rewards that do not differ carry no signal. Dividing by their deviation of 0 gives noise or NaN.",
        "Subtract the mean, and add a small number to a deviation before dividing by it. If equal rewards should push the "
        "policy, declare @advantage(signal_from_equal_rewards=True).",
        _check_equal_rewards,
    ),
    Promise(
        "rounded_rewards",
        "equal rewards in float32 give no advantage to speak of either",
        "The mean of equal numbers can differ from them in the last digit. Divided by a deviation of the same size, that is "
        "a full advantage. Other training loops and reward models use float32.",
        "Compute in float64, inputs.rewards.double(), and treat a spread that is tiny in relation to the rewards as none: "
        "plugrad.equal_rewards(rewards) finds such groups. An absolute threshold does not.",
        _check_rounded_rewards,
        after=("equal_rewards", "single_precision"),
    ),
    Promise(
        "reward_order",
        "of two rollouts that exchange their rewards, the one that gains does not lose advantage",
        "With the wrong sign the policy learns to avoid what was rewarded, and the curves still look alive.",
        "An advantage is how much better a rollout is than expected: the reward minus the baseline, and not the reverse. "
        "If rewards are costs, declare @advantage(opposes_rewards=True).",
        _check_reward_order,
        after=("inputs_unchanged",),
    ),
    Promise(
        "scale_and_shift",
        "the effect of shifting and scaling the rewards is reported; this check never fails",
        "If you rescale a reward or add a bonus to all, you need to know whether to change the learning rate.",
        "Nothing to fix. Describe the effect in the docstring.",
        _check_scale_and_shift,
    ),
    Promise(
        "nan_reward",
        "a NaN reward is not hidden and affects no other group",
        "A broken reward function must stop the run. With an advantage of 0 in its place, the run trains on noise for days.",
        "Avoid nan_to_num and nanmean. A comparison with NaN is False, so the other branch of a torch.where must compute "
        "with the rewards.",
        _check_nan_reward,
        after=("groups_apart",),
    ),
)
