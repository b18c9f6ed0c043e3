"""Diagnose a run: call every finder, problems first."""

from __future__ import annotations

from pathlib import Path

from plugrad.contracts.finding import Finding
from plugrad.contracts.run_records import RunRecords
from plugrad.diagnosis import of_completions, of_policy, of_rewards, of_updates
from plugrad.diagnosis.findings import Finder
from plugrad.diagnosis.of_extensions import found_by_extensions
from plugrad.diagnosis.outcome import FEWEST_STEPS, outcome
from plugrad.diagnosis.record_reading import read_records

FINDERS: tuple[Finder, ...] = (
    of_completions.cold_sampling,
    of_rewards.constant_reward,
    of_rewards.equal_groups,
    of_rewards.zero_advantages,
    of_updates.no_gradient,
    of_updates.skipped_updates,
    of_updates.small_steps,
    of_updates.large_steps,
    of_updates.rounded_away,
    of_updates.always_clipped,
    of_rewards.exploration_ended,
    of_policy.drops_tokens,
    of_policy.never_clips,
    of_policy.kl_runaway,
    of_policy.engine_mismatch,
    of_policy.stale_samples,
    of_policy.dropped_rollouts,
    of_completions.failed_plays,
    of_completions.truncated,
    of_completions.length_drift,
    of_completions.repetition,
    of_rewards.held_out_falls,
    of_rewards.component_dominates,
    of_updates.silent_loss,
    of_updates.silent_metric,
    of_rewards.reward_outcome,
    found_by_extensions,
)
"""In the order in which they are shown: each may explain those after it."""


def diagnose(folder: Path) -> list[Finding]:
    """Return what went wrong in the run in `folder`, problems first; the run may still go on.

    Raises:
        RunFileError: the folder holds no run, or a file of it is damaged.
    """
    return found_in(read_records(folder))


def found_in(records: RunRecords) -> list[Finding]:
    """Return what went wrong, problems first."""
    findings = [finding for finder in FINDERS for finding in finder(records)]
    return sorted(findings, key=lambda finding: finding.severity != "problem")


def learned_nothing(records: RunRecords) -> bool:
    """Return whether a run should be told at its end what is wrong: its reward did not rise, or could not."""
    return outcome(records) in ("flat", "fell") or any(of_rewards.constant_reward(records))


def not_looked_at(records: RunRecords) -> str:
    """Return what cannot be said of such a run; nothing if it is long enough."""
    if records.num_steps >= FEWEST_STEPS:
        return ""
    return f"The run has {records.num_steps} steps. Whether a reward rises shows after {FEWEST_STEPS} at the earliest."
