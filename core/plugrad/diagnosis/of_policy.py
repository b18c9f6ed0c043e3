"""Findings about the policy's distances: to what it was, to what sampled, and to the reference."""

from __future__ import annotations

from collections.abc import Iterator

from plugrad.contracts.run_records import RunRecords, Series
from plugrad.diagnosis.findings import Finding, around, number, steps_of
from plugrad.diagnosis.outcome import samples, went_nowhere

DROPPED = ("/clip_fraction", "/clip_ratio", "/clipped", "/is_masked", "/masked")
"""What losses call the share of tokens that they take the gradient from."""
MUCH = 1 / 3
"""A clip that acts on the side of the advantage alone drops about half at most, wherever the policy goes."""
FEWEST_STEPS = 8
OWN = ("inference_mismatch/", "kl/inference", "kl/old")
"""KL divergences that are not to the reference."""
FAR_NATS = 0.05
"""A mean divergence per token, at which samples are no longer the policy's. 16-bit engines stay below a fifth of it."""


def of_training(records: RunRecords) -> Iterator[tuple[str, Series]]:
    """Yield the numbers that are not of held-out completions, which nothing is trained on."""
    return ((name, series) for name, series in records.numbers.items() if not name.startswith("eval/"))


def drops_tokens(records: RunRecords) -> Iterator[Finding]:
    """A loss clips or masks much of what it gets."""
    for name, series in of_training(records):
        shares = series.finite().trained()
        if not name.endswith(DROPPED) or len(shares) < 2 or shares.median() < MUCH:
            continue
        loss = name.partition("/")[0]
        yield Finding(
            "tokens_clipped",
            "problem",
            f"The loss {loss!r} drops more than a third of the tokens",
            f"{name} had a median of {number(shares.median())} in {steps_of(shares)}.",
            f"Divide optimizer.lr by 3 or 10, lower updates_per_batch ({records.setting('updates_per_batch')}) or "
            f"rollout.max_staleness ({records.setting('rollout.max_staleness')}), or widen the range of {loss!r} in "
            "loss.kwargs.",
        )


def never_clips(records: RunRecords) -> Iterator[Finding]:
    """A loss that limits how far the policy moves never has to: it hardly moves."""
    moves = (records.setting("updates_per_batch") or 1) > 1 or (records.setting("rollout.max_staleness") or 0) > 0
    if not moves or not went_nowhere(records):
        return
    for name, series in of_training(records):
        shares = series.finite().trained()
        if name.endswith("/clip_fraction") and len(shares) >= FEWEST_STEPS and not shares.values.any():
            yield Finding(
                "clip_never_acts",
                "warning",
                f"The clip of the loss {name.partition('/')[0]!r} never acts: the policy hardly moves",
                f"{name} was 0 in {steps_of(shares)}, with updates_per_batch = {records.setting('updates_per_batch')}.",
                f"Multiply optimizer.lr by 3 or 10; it is {records.setting('optimizer.lr')}.",
            )


def kl_runaway(records: RunRecords) -> Iterator[Finding]:
    """The policy leaves the reference behind."""
    for name, series in of_training(records):
        if not (name.endswith("/kl") or name.startswith("kl/reference_k3")) or name.startswith(OWN):
            continue
        values = series.finite().trained()
        if len(values) < FEWEST_STEPS or not went_nowhere(records):
            continue
        if values.last(0.25).mean() >= 1.0:
            yield Finding(
                "kl_runaway",
                "problem",
                "The policy has run away from the reference",
                f"{around(name, values)}, in nats per token.",
                "Divide optimizer.lr by 3 or 10, or raise the weight of the loss that holds the policy to the reference "
                "(loss.weight).",
            )


def engine_mismatch(records: RunRecords) -> Iterator[Finding]:
    """The engine's log-probs are not the trainer's, though the policy has not moved in between."""
    if _moves_in_between(records) or not samples(records):
        return
    kl = records.series("inference_mismatch/kl").trained()
    if len(kl) < 2 or kl.last(0.5).median() < FAR_NATS:
        return
    late = kl.last(0.5)
    parity = records.series("inference_mismatch/parity")
    scored = f" The parity check found a mean difference of {number(parity.values[-1])} nats." if len(parity) else ""
    yield Finding(
        "engine_mismatch",
        "problem",
        "The engine samples from another policy than the one that is trained",
        f"inference_mismatch/kl had a median of {number(late.median())} nats per token in {steps_of(late)}, with one update "
        f"per batch and no staleness.{scored}",
        "Give engine and trainer the same data type (model.dtype, rollout.vllm.kwargs), lower rollout.parity_bound so that "
        "the run stops there, and use a loss that corrects for it.",
    )


def stale_samples(records: RunRecords) -> Iterator[Finding]:
    """The policy moves away from what sampled its batch."""
    kl = records.series("inference_mismatch/kl").trained()
    if not _moves_in_between(records) or len(kl) < 2 or not went_nowhere(records) or kl.median() < FAR_NATS:
        return
    lag = records.series("staleness/mean").trained()
    yield Finding(
        "stale_samples",
        "problem",
        "The policy moves far from the one that sampled its batch",
        f"inference_mismatch/kl had a median of {number(kl.median())} nats per token in {steps_of(kl)}"
        + (f", and tokens were {number(lag.mean())} updates old." if len(lag) else "."),
        f"Lower updates_per_batch ({records.setting('updates_per_batch')}) or rollout.max_staleness "
        f"({records.setting('rollout.max_staleness')}), divide optimizer.lr by 3, or use a loss that clips.",
    )


def dropped_rollouts(records: RunRecords) -> Iterator[Finding]:
    """Much of what is sampled is too old to train on."""
    dropped = records.series("dropped_rollouts").trained()
    size = (records.setting("rollout.prompts_per_step") or 1) * (records.setting("rollout.rollouts_per_example") or 1)
    steps = len(records.series("reward").trained())
    if not len(dropped) or not steps or (share := dropped.values.sum() / (size * steps)) < 0.2:
        return
    yield Finding(
        "dropped_rollouts",
        "warning",
        "Much of what is sampled is too old to train on",
        f"dropped_rollouts: {share:.0%} of the rollouts of {steps_of(dropped)} were sampled again.",
        f"Raise rollout.max_staleness, now {records.setting('rollout.max_staleness')}, or lower rollout.max_new_tokens.",
    )


def _moves_in_between(records: RunRecords) -> bool:
    return (records.setting("updates_per_batch") or 1) > 1 or (records.setting("rollout.max_staleness") or 0) > 0
