"""What a loss receives and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from beartype import beartype
from jaxtyping import Bool, Float, Int, jaxtyped
from torch import Tensor

from plugrad.contracts.measures import Measure


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True)
class LossInputs:
    """One sequence, the prompt's tokens first. Entry t is about token t given the tokens before it; log-probs are in nats.

    Slots where `loss_mask` is False hold finite numbers that mean nothing. The fields after the first five are None unless
    the loss asks for them with `@loss(needs={...})`.
    """

    trainer_logprobs: Float[Tensor, "seq"]
    """log pi_theta in nats, with gradient, at the sampling temperature."""
    inference_logprobs: Float[Tensor, "seq"]
    """log mu in nats, from the engine that sampled the token. Of replayed completions: the trainer's own, detached."""
    teacher_logprobs: Float[Tensor, "seq"] | None
    """log pi_teacher in nats; given whenever the run has a teacher."""
    advantages: Float[Tensor, "seq"]
    """One per token, from the selected advantage."""
    loss_mask: Bool[Tensor, "seq"]
    """True where the token was sampled and counts (the end-of-sequence token counts)."""
    old_logprobs: Float[Tensor, "seq"] | None = field(default=None, kw_only=True)
    """log pi in nats, before the first update on this batch of rollouts."""
    ref_logprobs: Float[Tensor, "seq"] | None = field(default=None, kw_only=True)
    """log pi_ref in nats, from the frozen reference model."""
    entropy: Float[Tensor, "seq"] | None = field(default=None, kw_only=True)
    """The entropy of pi_theta at this position in nats, with gradient."""
    logits: Float[Tensor, "seq vocab"] | None = field(default=None, kw_only=True)
    """Their log-softmax is log pi_theta of every token at this position, with gradient: they are divided by the temperature.
    A micro-batch of them takes tokens x vocabulary of memory, several times over."""
    input_ids: Int[Tensor, "seq"] | None = field(default=None, kw_only=True)
    """The tokens, the prompt's first."""
    reward: Float[Tensor, ""] | None = field(default=None, kw_only=True)
    """The sequence's reward, as `prepare_advantages` left it."""
    loss_weights: Float[Tensor, "seq"] | None = field(default=None, kw_only=True)
    """Reserved for weights per token; nothing supplies it yet."""
    step: int = field(default=0, kw_only=True)
    """The batch of rollouts, counted from 0."""
    max_steps: int = field(default=1, kw_only=True)
    """The run file's."""

    @classmethod
    def unchecked(cls, fields: dict[str, Any]) -> LossInputs:
        """Build one from all of its fields without a shape check: its batch was checked when it was built."""
        inputs = object.__new__(cls)
        inputs.__dict__.update(fields)
        return inputs


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True)
class BatchLossInputs:
    """A micro-batch: the fields of `LossInputs`, rows are whole sequences padded at the right.

    Rows may be cut anywhere, so a loss that mixes rows says `@loss(cut_dependent=True)`.
    """

    trainer_logprobs: Float[Tensor, "batch seq"]
    """log pi_theta in nats, with gradient, at the sampling temperature."""
    inference_logprobs: Float[Tensor, "batch seq"]
    """log mu in nats, from the engine that sampled the token. Of replayed completions: the trainer's own, detached."""
    teacher_logprobs: Float[Tensor, "batch seq"] | None
    """log pi_teacher in nats; given whenever the run has a teacher."""
    advantages: Float[Tensor, "batch seq"]
    """One per token, from the selected advantage."""
    loss_mask: Bool[Tensor, "batch seq"]
    """True where the token was sampled and counts; False in the prompt and in padding."""
    old_logprobs: Float[Tensor, "batch seq"] | None = field(default=None, kw_only=True)
    """log pi in nats, before the first update on this batch of rollouts."""
    ref_logprobs: Float[Tensor, "batch seq"] | None = field(default=None, kw_only=True)
    """log pi_ref in nats, from the frozen reference model."""
    entropy: Float[Tensor, "batch seq"] | None = field(default=None, kw_only=True)
    """The entropy of pi_theta at this position in nats, with gradient."""
    logits: Float[Tensor, "batch seq vocab"] | None = field(default=None, kw_only=True)
    """Their log-softmax is log pi_theta of every token at this position, with gradient: they are divided by the temperature.
    A micro-batch of them takes tokens x vocabulary of memory, several times over."""
    input_ids: Int[Tensor, "batch seq"] | None = field(default=None, kw_only=True)
    """The tokens, the prompt's first."""
    reward: Float[Tensor, "batch"] | None = field(default=None, kw_only=True)
    """Each sequence's reward, as `prepare_advantages` left it."""
    loss_weights: Float[Tensor, "batch seq"] | None = field(default=None, kw_only=True)
    """Reserved for weights per token; nothing supplies it yet."""
    group_ids: Int[Tensor, "batch"] | None = field(default=None, kw_only=True)
    """Rows with the same number are rollouts of the same prompt."""
    metadata: Sequence[Mapping[str, Any]] | None = field(default=None, kw_only=True)
    """The columns of each row's example."""
    step: int = field(default=0, kw_only=True)
    """The batch of rollouts, counted from 0."""
    max_steps: int = field(default=1, kw_only=True)
    """The run file's."""


@dataclass(frozen=True)
class LossOutputs:
    """What a loss returns: sums, never means over the batch. The host divides."""

    loss: Tensor
    """From one sequence: a scalar, the sum over its tokens, or `[seq]`. From a batch: `[batch, seq]` or `[batch]`."""
    metrics: Mapping[str, Tensor | Measure | float] = field(default_factory=dict)
    """By name. A scalar weighs one sequence, a 1-D tensor one per element; a `Measure` says for itself."""
