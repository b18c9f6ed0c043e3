"""What a loss receives and what it returns, and a loss as hooks see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from jaxtyping import Bool, Float, Int
from torch import Tensor

from plugrad.contracts.checked_fields import checked_fields, named_fields
from plugrad.contracts.markers import Reduction
from plugrad.contracts.measures import Measure

POLICY_OUTPUTS = ("trainer_logprobs", "entropy", "logits", "hidden_states", "embedding", "values", "teacher_divergence")
"""The fields that the policy or the critic computes, with gradient."""
OF_SEQUENCES = frozenset({"reward", "embedding", "member", "group_ids"})
"""The fields with one entry per sequence and none per token."""


@checked_fields
@dataclass(frozen=True, kw_only=True)
class LossInputs:
    """One sequence, prompt tokens first. Entry t is about token t given the tokens before it. Log-probs are in nats.

    Slots where `loss_mask` is False hold finite numbers without meaning. Optional fields are None unless the loss
    requests them with `@loss(needs={...})`.
    """

    trainer_logprobs: Float[Tensor, "seq"]
    """log pi_theta in nats, with gradient, at the sampling temperature."""
    inference_logprobs: Float[Tensor, "seq"]
    """log mu in nats, from the engine that sampled the token. For replayed completions: the trainer's own, detached."""
    advantages: Float[Tensor, "seq"]
    """One per token, from the selected advantage."""
    loss_mask: Bool[Tensor, "seq"]
    """True where the token was sampled and counts, end-of-sequence token included. False in the prompt and in padding."""
    old_logprobs: Float[Tensor, "seq"] | None = None
    """log pi in nats, before the first update on this batch of rollouts."""
    ref_logprobs: Float[Tensor, "seq"] | None = None
    """log pi_ref in nats, from the frozen reference model."""
    teacher_logprobs: Float[Tensor, "seq"] | None = None
    """log pi_teacher in nats, from the frozen model of `[model.teacher]`."""
    teacher_divergence: Float[Tensor, "seq"] | None = None
    """The `TeacherDivergence` that the loss needs, in nats over the whole vocabulary, with gradient; never negative."""
    teacher_logits: Float[Tensor, "seq vocab"] | None = None
    """The teacher's logits over the sampling temperature, in columns for the policy's tokens: -inf where it lacks one."""
    entropy: Float[Tensor, "seq"] | None = None
    """The entropy of pi_theta at this position in nats, with gradient."""
    logits: Float[Tensor, "seq vocab"] | None = None
    """Logits divided by the temperature, with gradient: their log-softmax is log pi_theta of every token at this position.
    They take memory for tokens x vocabulary, several times over."""
    hidden_states: Float[Tensor, "seq hidden"] | None = None
    """The last hidden states, with gradient, in float32 at least. Entry t is the state that predicts token t."""
    embedding: Float[Tensor, "hidden"] | None = None
    """The last hidden state of the last counted token, with gradient: the state that has read the whole sequence."""
    values: Float[Tensor, "seq"] | None = None
    """The critic's values, with gradient, in the unit of rewards. Entry t is V of the state in which token t was chosen."""
    old_values: Float[Tensor, "seq"] | None = None
    """The critic's values before the first update on this batch of rollouts."""
    returns: Float[Tensor, "seq"] | None = None
    """What the values are trained on: `AdvantageOutputs.returns`."""
    input_ids: Int[Tensor, "seq"] | None = None
    """The tokens, prompt first."""
    reward: Float[Tensor, ""] | None = None
    """The sequence's reward, as `prepare_advantages` returned it."""
    step: int = 0
    """The batch of rollouts, counted from 0."""
    max_steps: int = 1
    """`max_steps` of the run file."""
    metadata: Mapping[str, Any] | None = None
    """The columns of the sequence's example."""
    member: Int[Tensor, ""] | None = None
    """The place of the sequence among the rollouts of its example, counted from 0."""
    parameters: Mapping[str, Tensor] | None = None
    """The loss's own parameters by name, with gradient: those of the module that its method `trained` made."""

    @classmethod
    def unchecked(cls, fields: dict[str, Any]) -> LossInputs:
        """Build inputs from all fields without a shape check: the batch they come from is already checked."""
        inputs = object.__new__(cls)
        inputs.__dict__.update(fields)
        return inputs


class AnotherPass(NamedTuple):
    """What a further pass through the policy gives: zero in masked slots."""

    trainer_logprobs: Float[Tensor, "batch seq"]
    """log pi_theta in nats of the same tokens, with gradient."""
    entropy: Float[Tensor, "batch seq"] | None = None
    """The entropy in nats, with gradient, if the loss needs it."""


@checked_fields
@dataclass(frozen=True, kw_only=True)
class BatchLossInputs:
    """A micro-batch. The fields mean what they mean in `LossInputs`; each row is a whole sequence, padded on the right.

    The cut into micro-batches is arbitrary, so a loss that mixes rows states `@loss(whole_batch=True)`. It gets the rows of
    all micro-batches and ranks at once, ordered by their prompt and place in its group. A rollout in several segments has
    several rows, the longest first.
    """

    trainer_logprobs: Float[Tensor, "batch seq"]
    inference_logprobs: Float[Tensor, "batch seq"]
    advantages: Float[Tensor, "batch seq"]
    loss_mask: Bool[Tensor, "batch seq"]
    old_logprobs: Float[Tensor, "batch seq"] | None = None
    ref_logprobs: Float[Tensor, "batch seq"] | None = None
    teacher_logprobs: Float[Tensor, "batch seq"] | None = None
    teacher_divergence: Float[Tensor, "batch seq"] | None = None
    teacher_logits: Float[Tensor, "batch seq vocab"] | None = None
    entropy: Float[Tensor, "batch seq"] | None = None
    logits: Float[Tensor, "batch seq vocab"] | None = None
    hidden_states: Float[Tensor, "batch seq hidden"] | None = None
    embedding: Float[Tensor, "batch hidden"] | None = None
    values: Float[Tensor, "batch seq"] | None = None
    old_values: Float[Tensor, "batch seq"] | None = None
    returns: Float[Tensor, "batch seq"] | None = None
    input_ids: Int[Tensor, "batch seq"] | None = None
    reward: Float[Tensor, "batch"] | None = None
    step: int = 0
    max_steps: int = 1
    group_ids: Int[Tensor, "batch"] | None = None
    """Rows with the same number are rollouts of the same prompt."""
    metadata: Sequence[Mapping[str, Any]] | None = None
    """The columns of each row's example."""
    member: Int[Tensor, "batch"] | None = None
    """The place of each row among the rollouts of its prompt, counted from 0."""
    again: Callable[[Tensor], AnotherPass] | None = None
    """`again(shift)` runs the policy once more, with `shift` `[batch, seq, hidden]` added to the embeddings of the tokens.
    The shift is detached: its own gradient is 0. `@loss(passes=2)` allows one call."""
    sensitivity: Callable[[Tensor], Tensor] | None = None
    """`sensitivity(total)` is d total / d embeddings of the tokens `[batch, seq, hidden]`, detached. `total` is a scalar,
    the sum over all counted tokens. It may be called once before each `again`, with the same need."""
    parameters: Mapping[str, Tensor] | None = None


@named_fields
@dataclass(frozen=True)
class LossOutputs:
    """What a loss returns: sums, never means over the batch. The host divides."""

    loss: Tensor
    """From one sequence: a scalar (the sum over its tokens) or `[seq]`. From a batch: `[batch, seq]` or `[batch]`."""
    metrics: Mapping[str, Tensor | Measure | float] = field(default_factory=dict)
    """By name. A scalar weighs one sequence, a 1-D tensor one per element. A `Measure` carries its own weight."""


class SelectedLoss(Protocol):
    """A loss of the run, as `prepare_loss` and `compute_loss` receive it."""

    @property
    def name(self) -> str:
        """The name of the loss."""
        ...

    @property
    def label(self) -> str:
        """The name of the loss in this run. Two uses of one loss have different labels."""
        ...

    @property
    def weight(self) -> float:
        """The factor of the loss in the objective."""
        ...

    @property
    def reduction(self) -> Reduction:
        """How the values of tokens become one number."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """The optional fields of `LossInputs` that the loss reads."""
        ...
