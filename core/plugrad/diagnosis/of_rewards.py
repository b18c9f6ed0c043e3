"""Findings about rewards: whether there is anything to learn from, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator

from plugrad.contracts.run_records import RunRecords, Series
from plugrad.diagnosis.findings import Finding, around, number, steps_of
from plugrad.diagnosis.outcome import (
    change_of,
    is_solved,
    learns_from_rewards,
    noise_of_held_out,
    outcome,
    samples,
    went_nowhere,
)

PAGE = "docs/questions.md"
EASIER = (
    "Make the examples easier, give partial rewards, or begin with supervised fine-tuning. Read a few completions, and call "
    "the reward function on a correct answer."
)
HARDER = "Choose harder examples, or a reward that still tells good completions from better ones."


def constant_reward(records: RunRecords) -> Iterator[Finding]:
    """Every step had the same reward: nothing to learn from."""
    rewards = records.series("reward").trained()
    if len(rewards) < 2 or rewards.values.max() > rewards.values.min() or not learns_from_rewards(records):
        return
    value = float(rewards.values[0])
    yield Finding(
        "constant_reward",
        "problem",
        f"The reward was {value:.3f} in every step, so there was nothing to learn from",
        f'reward was {value:.3f} in {steps_of(rewards)}; see "Why is my reward flat?" in {PAGE}.',
        EASIER if value <= 0 else f"If the examples are solved: {HARDER[0].lower()}{HARDER[1:]} Otherwise: {EASIER}",
    )


def reward_outcome(records: RunRecords) -> Iterator[Finding]:
    """The reward fell, or did not rise."""
    rewards = records.series("reward").trained()
    found = outcome(records)
    if found not in ("flat", "fell") or rewards.values.max() == rewards.values.min():
        return
    if not went_nowhere(records):
        if not any(equal_groups(records)):
            yield _nearly_solved(rewards)
        return
    change, error = change_of(rewards)
    fell = found == "fell"
    question = "Why does my reward fall?" if fell else "Why is my reward flat?"
    yield Finding(
        "reward_fell" if fell else "reward_flat",
        "problem",
        "The reward fell" if fell else "The reward did not rise beyond its noise",
        f"{around('reward', rewards)}: a change of {change:+.3g}, with a standard error of {number(error)}; see "
        f'"{question}" in {PAGE}.',
        f"What else is found here may be the cause. If nothing is: {'divide' if fell else 'multiply'} optimizer.lr by 3.",
    )


def _nearly_solved(rewards: Series) -> Finding:
    return Finding(
        "reward_flat",
        "warning",
        "The reward was near its top from the beginning: little is left to learn",
        f"{around('reward', rewards)}.",
        HARDER,
    )


def equal_groups(records: RunRecords) -> Iterator[Finding]:
    """All rollouts of an example get the same reward, from the beginning on, though not all examples do."""
    shares = records.series("reward/equal_groups").trained()
    per_example = records.setting("rollout.rollouts_per_example") or 1
    if len(shares) < 2 or per_example < 2 or not learns_from_rewards(records) or not samples(records):
        return
    early = shares.first(0.5)
    if early.mean() < 0.9 or outcome(records) == "rose" or any(constant_reward(records)):
        return
    low, high = records.series("reward/min").values.min(), records.series("reward/max").values.max()
    mean = records.series("reward").trained().mean()
    is_hard = mean <= (low + high) / 2
    more = (
        f"Or raise rollout.rollouts_per_example, which is {per_example}, so that more groups hold a success and a failure."
    )
    yield Finding(
        "equal_groups",
        "problem",
        f"Nearly all groups have equal rewards: the reward is too {'hard' if is_hard else 'easy'}",
        f"reward/equal_groups was {number(early.mean())} in {steps_of(early)}, with rewards from {number(low)} to "
        f"{number(high)} and a mean of {number(mean)}. A group whose rewards are equal gives a group baseline no signal.",
        f"{EASIER if is_hard else HARDER} {more}",
    )


def zero_advantages(records: RunRecords) -> Iterator[Finding]:
    """Rewards differ, and the loss receives nothing."""
    zero, equal = records.series("advantage/zero").trained(), records.series("reward/equal_groups").trained()
    if len(zero) < 2 or not len(equal) or zero.mean() < 0.95 or equal.mean() > 0.5 or not learns_from_rewards(records):
        return
    name = records.setting("advantage.name")
    yield Finding(
        "zero_advantages",
        "problem",
        "The rewards differ, and nearly all advantages are 0",
        f"advantage/zero was {number(zero.mean())} in {steps_of(zero)}, where only {number(equal.mean())} of the groups had "
        "equal rewards.",
        f"Look at the advantage {name!r} and at the extensions that change rewards or advantages: `plugrad check {name}`.",
    )


def held_out_falls(records: RunRecords) -> Iterator[Finding]:
    """The training reward rises while the held-out one falls: overfitting, or a reward that is gamed."""
    held_out, rewards = records.series("eval/reward"), records.series("reward").trained()
    if len(held_out) < 3 or len(rewards) < 4:
        return
    best = int(held_out.values.argmax())
    # The last two: one may be chance.
    later = held_out.values[best + 1 :][-2:]
    if len(later) < 2 or held_out.values[best] - later.max() <= noise_of_held_out(records):
        return
    change, error = change_of(rewards) if len(rewards) >= 6 else (rewards.values[-1] - rewards.values[0], 0.0)
    if change <= 2 * error:
        return
    yield Finding(
        "held_out_falls",
        "problem",
        "The training reward rises while the held-out reward falls: overfitting, or a reward that is gamed",
        f"{around('reward', rewards)}; eval/reward was {number(held_out.values[best])} after step {held_out.steps[best]} "
        f"and {number(held_out.values[-1])} after step {held_out.steps[-1]}.",
        "Read completions of both. Train on more examples, stop earlier (max_steps, evaluation.stop_at_reward), or add the "
        "loss kl_to_reference with a small weight.",
    )


def component_dominates(records: RunRecords) -> Iterator[Finding]:
    """One component of the reward is so large that the others do not count."""
    values: dict[str, list[float]] = {}
    for sample in records.samples:
        components = sample.get("rewards")
        if sample.get("phase") == "training" and isinstance(components, dict):
            for name, value in components.items():
                if isinstance(value, int | float):
                    values.setdefault(name, []).append(value)
    ranges = {name: max(found) - min(found) for name, found in values.items() if len(found) >= 16}
    # The component `reward` is what counts. Another that ranges further is only told with it.
    total = ranges.pop("reward", None)
    ranges = {name: found for name, found in ranges.items() if total is None or found <= 1.5 * total}
    if len(ranges) < 2:
        return
    largest, *others = sorted(ranges, key=lambda name: -ranges[name])
    counting = [name for name in others if ranges[name] > 0]
    if not counting or sum(ranges[name] for name in counting) * 20 > ranges[largest]:
        return
    yield Finding(
        "component_dominates",
        "warning",
        f"The component {largest!r} of the reward drowns the others",
        f"In the samples of training, {largest!r} ranges over {number(ranges[largest])}, and "
        f"{', '.join(f'{name!r} over {number(ranges[name])}' for name in counting)}.",
        f"Scale the components to the same range where the environment scores: divide {largest!r} by "
        f"{number(ranges[largest] / max(ranges[name] for name in counting))}.",
    )


def exploration_ended(records: RunRecords) -> Iterator[Finding]:
    """The entropy collapsed before the task was solved."""
    entropy = records.series("entropy/mean").trained()
    shares, rewards = records.series("reward/equal_groups").trained(), records.series("reward").trained()
    if len(entropy) < 8 or not len(shares) or not samples(records):
        return
    first, last = entropy.first(0.25).mean(), entropy.last(0.25).mean()
    if last > 0.1 * first or last > 0.1 or shares.last(0.25).mean() < 0.8:
        return
    if is_solved(records) or any(constant_reward(records)):
        return
    best, now = float(records.series("reward/max").values.max(initial=float("-inf"))), rewards.last(0.25).mean()
    yield Finding(
        "entropy_collapse",
        "problem",
        "The policy has stopped exploring: its entropy collapsed",
        f"{around('entropy/mean', entropy)}. {around('reward/equal_groups', shares)}, and the reward is {number(now)} where "
        f"single completions got {number(best)}.",
        "Divide optimizer.lr by 3 or 10, or add the loss entropy_bonus with a small weight, such as 0.001.",
    )
