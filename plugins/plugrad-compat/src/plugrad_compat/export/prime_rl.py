"""Any plugrad loss or advantage for prime-rl's `import_path`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from plugrad import AdvantageInputs, AdvantageOutputs, LossInputs, LossOutputs
from plugrad_compat.adapters.responses import as_rows
from plugrad_compat.export.named import named_advantage, named_loss, weighted

GIVES = frozenset({"old_logprobs", "ref_logprobs", "teacher_logprobs"})


def prime_rl_loss(inputs: Any, *, name: str, **options: Any) -> LossOutputs:
    """Return the sum over one sequence: `import_path = "plugrad_compat.export.prime_rl_loss"`.

    prime-rl has no log-probs from before the update, so `old_logprobs` are the inference engine's. Its `ref_logprobs`,
    or `teacher_logprobs` in earlier versions, serve as both. Its `loss_weights` weight the tokens.

    Args:
        inputs: prime-rl's LossInputs.
        name: the plugrad loss.
        options: the options of the loss.

    Raises:
        PluginError: it is not installed, or needs something that prime-rl does not provide.
    """
    found = named_loss(name, options, "prime-rl", GIVES)
    ref = getattr(inputs, "ref_logprobs", None)
    teacher = getattr(inputs, "teacher_logprobs", None)
    own = LossInputs(
        trainer_logprobs=inputs.trainer_logprobs,
        inference_logprobs=inputs.inference_logprobs,
        teacher_logprobs=ref if teacher is None else teacher,
        advantages=inputs.advantages,
        loss_mask=inputs.loss_mask,
        old_logprobs=inputs.inference_logprobs,
        ref_logprobs=teacher if ref is None else ref,
    )
    # prime-rl may pass a sequence without a counted token. It adds nothing.
    rows = found.rows(as_rows(own))
    weights = getattr(inputs, "loss_weights", None)
    sums = rows.sums if weights is None else weighted(rows, weights.unsqueeze(0), name, "prime-rl's loss_weights")
    return LossOutputs(sums[0], {key: torch.tensor(value) for key, value in rows.metrics.items()})


def prime_rl_advantage(inputs: Any, *, name: str, **options: Any) -> AdvantageOutputs:
    """Return one advantage per rollout: `import_path = "plugrad_compat.export.prime_rl_advantage"`.

    Args:
        inputs: prime-rl's AdvantageInputs, with `rewards` and `completion_lengths`, or with `rollouts`.
        name: the plugrad advantage.
        options: the options of the advantage.

    Raises:
        PluginError: it is not installed.
    """
    rewards = getattr(inputs, "rewards", None)
    rollouts = getattr(inputs, "rollouts", None) or []
    if rewards is None:
        rewards = torch.tensor([[rollout["reward"] for rollout in group] for group in rollouts], dtype=torch.double)
    lengths = getattr(inputs, "completion_lengths", None)
    lengths = torch.ones_like(rewards, dtype=torch.long) if lengths is None else lengths.long()
    given = replace(AdvantageInputs(rewards=rewards, completion_lengths=lengths), rollouts=rollouts)
    return named_advantage(name, options)(given)
