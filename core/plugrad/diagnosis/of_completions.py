"""Findings about what the policy writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.contracts.run_records import RunRecords
from plugrad.diagnosis.findings import Finding, around, number, steps_of
from plugrad.diagnosis.outcome import outcome, samples, went_nowhere

GRAM = 4
FEWEST_WORDS = 12
"""Of a completion in which repetition is looked for."""
FEWEST_SAMPLES = 4
FEWEST_STEPS = 8
FAILED_SHARE = 0.05
"""Of plays, from which on failures are worth a look."""
COLD = 0.5
"""A temperature below it may leave nothing to explore."""
SHARP_NATS = 0.1
"""An entropy per token at which the completions of a prompt are nearly all the same."""


def cold_sampling(records: RunRecords) -> Iterator[Finding]:
    """The temperature is so small that the completions of a prompt are all the same, from the first step on."""
    temperature = records.setting("rollout.temperature")
    entropy = records.series("entropy/mean").trained()
    shares = records.series("reward/equal_groups").trained()
    if temperature is None or temperature >= COLD or not len(entropy) or not len(shares) or not went_nowhere(records):
        return
    if entropy.values[0] > SHARP_NATS or shares.first(0.25).mean() < 0.8:
        return
    yield Finding(
        "cold_sampling",
        "problem",
        "The temperature is so small that all completions of a prompt are the same",
        f"entropy/mean was {number(entropy.values[0])} and reward/equal_groups {number(shares.values[0])} in "
        f"step {shares.steps[0]}, with rollout.temperature = {temperature}.",
        f"Set rollout.temperature to 1.0; it is {temperature}.",
    )


def truncated(records: RunRecords) -> Iterator[Finding]:
    """Completions are cut before they answer."""
    shares = records.series("completion_length/truncated").trained()
    if len(shares) < 2 or not samples(records):
        return
    first, last = shares.first(0.25), shares.last(0.5)
    grew = len(shares) >= FEWEST_STEPS and first.mean() < 0.2
    if last.mean() < 0.5 or not (went_nowhere(records) or grew):
        return
    limit = records.setting("rollout.max_new_tokens")
    yield Finding(
        "truncated_completions",
        "problem" if went_nowhere(records) else "warning",
        "Completions are cut before they end",
        f"completion_length/truncated was {number(last.mean())} in {steps_of(last)}: so many completions had "
        f"{limit} tokens and no end.",
        f"Raise rollout.max_new_tokens, which is {limit}, end completions with rollout.stop, or reward short answers.",
    )


def length_drift(records: RunRecords) -> Iterator[Finding]:
    """Completions become much longer or shorter, and no better."""
    lengths = records.series("completion_length/mean").trained()
    if len(lengths) < FEWEST_STEPS or not went_nowhere(records):
        return
    first, last = lengths.first(0.25).mean(), lengths.last(0.25).mean()
    if 0.5 * first < last < 2 * first:
        return
    grew = last > first
    yield Finding(
        "length_drift",
        "warning",
        f"Completions become much {'longer' if grew else 'shorter'}, and no better",
        f"{around('completion_length/mean', lengths)}.",
        "Reward short answers, or use a reduction that does not favour long ones: loss.reduction = 'constant'."
        if grew
        else "See whether the reward favours short answers by accident, and divide optimizer.lr by 3.",
    )


def repetition(records: RunRecords) -> Iterator[Finding]:
    """Completions repeat themselves."""
    shares = records.series("repetition/mean").trained()
    early, late = shares.first(0.25).mean(), shares.last(0.25).mean()
    evidence = ""
    if len(shares) >= FEWEST_STEPS and late >= 0.5 and late >= 1.5 * early:
        evidence = f"{around('repetition/mean', shares)}."
    elif not len(shares):
        evidence = _in_samples(records)
    if evidence:
        yield Finding(
            "repetition",
            # A reward may ask for it.
            "warning" if outcome(records) == "rose" else "problem",
            "Completions repeat themselves",
            evidence,
            "Divide optimizer.lr by 3, add the loss kl_to_reference with a small weight, or penalise repetition in the "
            "reward.",
        )


def _in_samples(records: RunRecords) -> str:
    """Return the evidence for repetition in the samples, or nothing."""
    found = [
        (int(sample["step"]), share)
        for sample in records.samples
        if sample.get("phase") == "training" and isinstance(sample.get("step"), int)
        for share in [_repeated_share(sample)]
        if share is not None
    ]
    if len(found) < 2 * FEWEST_SAMPLES:
        return ""
    middle = sorted(step for step, _ in found)[len(found) // 2]
    late = [share for step, share in found if step >= middle]
    mean = sum(late) / len(late)
    if mean < 0.5 or len(late) < FEWEST_SAMPLES:
        return ""
    return f"In the samples from step {middle} on, {mean:.0%} of the runs of {GRAM} words repeat an earlier one."


def _repeated_share(sample: Mapping[str, Any]) -> float | None:
    """Return 1 - distinct / all, of the n-grams of a completion's words; None if it has few words."""
    words = str(sample.get("completion", "")).split()
    if len(words) < FEWEST_WORDS:
        return None
    grams = [tuple(words[start : start + GRAM]) for start in range(len(words) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams)


def failed_plays(records: RunRecords) -> Iterator[Finding]:
    """Plays of an environment with turns fail: their rollouts are not trained on."""
    failed = records.series("environment/failed").trained()
    if not len(failed) or failed.values.mean() < FAILED_SHARE:
        return
    yield Finding(
        "failed_plays",
        "problem",
        f"{failed.values.mean():.0%} of the plays failed, so their rollouts were not trained on",
        f"{around('environment/failed', failed)}; see docs/write/turns.md.",
        "Read the reasons in the log, or in `failed` of samples.jsonl. `plugrad check` plays with odd replies; "
        "rollout.play_seconds limits the environment's time.",
    )
