"""The inputs of a prime-rl loss, under prime-rl's names."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LossInputs:
    """What a prime-rl loss receives: the fields of its earlier and its later versions. All tensors are `[seq]`."""

    trainer_logprobs: Tensor
    inference_logprobs: Tensor
    advantages: Tensor
    loss_mask: Tensor
    teacher_logprobs: Tensor | None = None
    """The earlier name of the teacher's log-probs."""
    ref_logprobs: Tensor | None = None
    """The later name, for the teacher or the reference."""
    loss_weights: Tensor | None = None
    """One weight per token. A later field."""
