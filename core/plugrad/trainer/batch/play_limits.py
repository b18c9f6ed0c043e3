"""What bounds the plays of a run: its run file, the token budget and the model."""

from __future__ import annotations

from transformers import PreTrainedModel

from plugrad.host.loss import num_passes
from plugrad.policy.context import context_of
from plugrad.rollout.turns.player import PlayLimits
from plugrad.trainer.checked_run import CheckedRun


def limits_of_plays(checked: CheckedRun, model: PreTrainedModel) -> PlayLimits:
    """Return the limits of a run's plays. Held-out environments may play where that of training does not."""
    table = checked.run_file.rollout
    budget = checked.run_file.tokens_per_micro_batch // num_passes(checked.selection.losses)
    return PlayLimits(
        max_new_tokens=table.max_new_tokens,
        max_turns=table.max_turns,
        longest_row=min(length for length in (budget, context_of(model).length) if length is not None),
        seconds=table.play_seconds,
        max_tokens=table.max_tokens,
        tool_format=table.tool_format,
    )
