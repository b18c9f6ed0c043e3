"""Findings about the updates: gradients, learning rate, and what never counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from plugrad.contracts.run_records import RunRecords
from plugrad.diagnosis.findings import Finding, around, number, steps_of
from plugrad.diagnosis.of_rewards import constant_reward, equal_groups, zero_advantages
from plugrad.diagnosis.outcome import learns_from_rewards, outcome, samples, went_nowhere

FEWEST_STEPS = 8
SMALL_PATH, SMALL_PATH_OF_ADAPTER, SMALL_PATH_FROM_SCRATCH = 1e-5, 1e-4, 2e-3
"""Adam moves no weight by much more than the learning rate in an update, and weights are about 0.02. A pretrained model may
learn from changes of a thousandth of that, one from scratch does not."""
HUGE_STEP = 0.05
SHARP_NATS = 0.01
"""An entropy per token at which nearly every token is certain."""


def skipped_updates(records: RunRecords) -> Iterator[Finding]:
    """Updates were skipped, by `nan_guard` or another extension."""
    skipped = records.series("skipped_updates").trained()
    per_step = records.setting("updates_per_batch") or 1
    at = skipped.steps[skipped.values > 0]
    # Every skip is read, whereas a long run's steps are only counted.
    share = float(skipped.values.sum()) / max(1, records.num_steps * per_step)
    if not len(at) or share < 0.01:
        return
    yield Finding(
        "skipped_updates",
        "problem" if share > 0.2 else "warning",
        f"{share:.0%} of the updates were skipped: their loss or gradient was not finite, or an extension vetoed them",
        f"skipped_updates was above 0 in {len(at)} of {records.num_steps} steps, first in step {at[0]} and last in step "
        f"{at[-1]}.",
        "Divide optimizer.lr by 3 or 10. Look at the largest ratio (inference_mismatch/max_ratio), and at your own loss: "
        "`plugrad check` tries it with extreme values.",
    )


def no_gradient(records: RunRecords) -> Iterator[Finding]:
    """Nothing moves the policy."""
    norms = records.series("grad_norm").trained()
    causes = (constant_reward, equal_groups, zero_advantages)
    if len(norms) < 2 or norms.values.any() or any(any(cause(records)) for cause in causes):
        return
    yield Finding(
        "no_gradient",
        "problem",
        "No gradient reaches the policy",
        f"grad_norm was exactly 0 in {steps_of(norms)}.",
        "See whether your own loss detaches its inputs, or masks every token: `plugrad check` tries it.",
    )


def always_clipped(records: RunRecords) -> Iterator[Finding]:
    """The gradient is clipped to a small part of itself in nearly every update."""
    norms, bound = records.series("grad_norm").trained(), records.setting("optimizer.max_grad_norm")
    if len(norms) < FEWEST_STEPS or not bound or not np.isfinite(bound) or not went_nowhere(records):
        return
    share = float((norms.values > bound).mean())
    if share < 0.9 or norms.median() < 10 * bound:
        return
    yield Finding(
        "gradients_clipped",
        "warning",
        "Gradients are always clipped, to a small part of themselves",
        f"grad_norm had a median of {number(norms.median())} and was above optimizer.max_grad_norm = {bound} in {share:.0%} "
        f"of {steps_of(norms)}.",
        f"Scale the loss or the rewards down (loss.weight), or raise optimizer.max_grad_norm to {number(norms.median())}.",
    )


def small_steps(records: RunRecords) -> Iterator[Finding]:
    """The learning rate is so small that the weights did not move."""
    rates = records.series("lr").trained()
    lr = records.setting("optimizer.lr")
    if not len(rates) or lr is None or not _moves_by_lr(records) or not went_nowhere(records):
        return
    updates = records.num_steps * (records.setting("updates_per_batch") or 1)
    path = rates.mean() * updates
    is_new = records.setting("model.from_scratch") is not None
    warmup = records.setting("optimizer.warmup_updates") or (records.setting("optimizer.warmup_ratio") or 0) * updates
    is_adapter = records.setting("model.lora") is not None
    small, better = (
        (SMALL_PATH_FROM_SCRATCH, "1e-3")
        if is_new
        else (SMALL_PATH_OF_ADAPTER, "1e-4")
        if is_adapter
        else (SMALL_PATH, "1e-5")
    )
    if path > small:
        return
    warming = (
        f" It was still warming up: optimizer.warmup_updates = {warmup:.0f} of {updates} updates."
        if warmup >= updates
        else ""
    )
    entropy = records.series("entropy/mean").trained()
    yield Finding(
        "learning_rate_too_small",
        "problem",
        "The learning rate is so small that the weights did not move",
        f"lr had a mean of {rates.mean():.2g} over {updates} updates. The optimizer moves a weight by about lr in an "
        f"update, so at most by {path:.1g} in all, where weights are about 0.02.{warming}"
        + (f" {around('entropy/mean', entropy)}." if len(entropy) else ""),
        "Lower optimizer.warmup_updates." if warming else f"Set optimizer.lr to {better}; it is {lr}.",
    )


def _moves_by_lr(records: RunRecords) -> bool:
    """Return whether the optimizer moves a weight by about `lr` in an update, as AdamW and its kin do."""
    return records.setting("optimizer.betas") is not None or records.setting("optimizer.name") is None


def rounded_away(records: RunRecords) -> Iterator[Finding]:
    """Weights of 16 bits lose small updates."""
    dtype, lr = records.setting("model.dtype"), records.setting("optimizer.lr")
    # An adapter keeps float32.
    if records.setting("model.lora") is not None or records.setting("optimizer.master_weights"):
        return
    is_small = lr is not None and lr <= 2e-5 and _moves_by_lr(records)
    if dtype not in ("bfloat16", "float16") or not is_small or not went_nowhere(records):
        return
    yield Finding(
        "updates_rounded_away",
        "warning",
        "The weights have 16 bits, and small updates are rounded away",
        f"model.dtype is {dtype!r} and optimizer.lr is {lr}: a weight of 0.02 takes no update below 4e-5.",
        "Set optimizer.master_weights = true; or model.dtype = 'float32' with model.compute_dtype = 'bfloat16'.",
    )


def large_steps(records: RunRecords) -> Iterator[Finding]:
    """The learning rate is so large that the policy breaks."""
    entropy, norms = records.series("entropy/mean").trained(), records.series("grad_norm").trained()
    if outcome(records) == "rose" or not samples(records) or len(entropy) < FEWEST_STEPS:
        return
    before, after = entropy.values[0], entropy.last(0.5).median()
    # Below that, as of a cold policy, entropies are rounding.
    broke = max(before, after) > SHARP_NATS and (after < 0.05 * before or after > 3 * before)
    grew = len(norms) >= FEWEST_STEPS and norms.last(0.25).median() > 10 * norms.first(0.25).median() > 0
    lr = records.setting("optimizer.lr")
    # A policy that solves its task has no entropy left either.
    is_huge = _moves_by_lr(records) and lr is not None and lr >= HUGE_STEP
    if not (broke or grew) or not (went_nowhere(records) or is_huge):
        return
    changed = [("entropy/mean", entropy)] * bool(broke) + [("grad_norm", norms)] * bool(grew)
    yield Finding(
        "learning_rate_too_large",
        "problem",
        "The learning rate is so large that the policy breaks",
        f"{'; '.join(around(name, series) for name, series in changed)}; and the reward did not rise."
        + f" An update moves a weight by about {lr}, where weights are about 0.02." * is_huge,
        f"Divide optimizer.lr by 10; it is {lr}.",
    )


def silent_loss(records: RunRecords) -> Iterator[Finding]:
    """A loss counts no sequence."""
    for table in _tables(records, "loss"):
        name = str(table.get("name", "")).rpartition("/")[2].rpartition(":")[2]
        series = records.series(f"{name}/loss").trained()
        if table.get("where") and len(series) >= 2 and not series.values.any() and _has_signal(records):
            yield Finding(
                "silent_loss",
                "warning",
                f"The loss {name!r} never counted a sequence",
                f"{name}/loss was exactly 0 in {steps_of(series)}. Its where is {dict(table['where'])}.",
                "Correct the where of the loss, raise rollout.prompts_per_step so that batches hold such examples, or "
                "remove the loss.",
            )


def silent_metric(records: RunRecords) -> Iterator[Finding]:
    """A metric that was asked for reports nothing, or no finite number."""
    for label in _asked_metrics(records):
        # A second one of the same name has a number behind its label.
        own = {name: series for name, series in records.numbers.items() if name.startswith(label)}
        values = sum(len(series.finite()) for series in own.values())
        if records.num_steps < 2 or values:
            continue
        names = ", ".join(own)
        yield Finding(
            "silent_metric",
            "warning",
            f"The metric {label!r} never reports a number",
            f"{names} is null in each of {records.num_steps} steps."
            if own
            else f"No number of the {records.num_steps} steps begins with {label}.",
            f"See with `plugrad plugins show {label}` what it needs, let it return None where a sequence has no value, or "
            "remove it from metrics.",
        )


def _asked_metrics(records: RunRecords) -> list[str]:
    """Return the labels of the metrics that the run file names."""
    listed = records.setting("metrics")
    asked = [str(table.get("name", "")) for table in _tables(records, "metric")]
    asked += [str(name) for name in listed] if isinstance(listed, list) else []
    return list(dict.fromkeys(name.rpartition("/")[2].rpartition(":")[2] for name in asked))


def _has_signal(records: RunRecords) -> bool:
    zero = records.series("advantage/zero").trained()
    return not learns_from_rewards(records) or not len(zero) or zero.mean() < 0.99


def _tables(records: RunRecords, key: str) -> list[Mapping[str, Any]]:
    found = records.setting(key)
    return [table for table in found if isinstance(table, Mapping)] if isinstance(found, list) else []
