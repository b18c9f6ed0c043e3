"""What a metric receives. It returns a mapping from names to measures, tensors or floats."""

from __future__ import annotations

from dataclasses import dataclass, field

from beartype import beartype
from jaxtyping import Bool, Float, Int, jaxtyped
from torch import Tensor

from plugrad.contracts.rollout import Rollout


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True)
class MetricInputs:
    """One rank's share of an optimizer batch, whole groups; tensors are detached, rows are the rollouts in order.

    The policy's numbers are those from before the update. Log-probs and entropy are in nats, and zero where `loss_mask`
    is False.
    """

    rollouts: list[list[Rollout]]
    rewards: Float[Tensor, "batch"]
    """Raw, as the environment scored them."""
    advantages: Float[Tensor, "batch seq"]
    loss_mask: Bool[Tensor, "batch seq"]
    trainer_logprobs: Float[Tensor, "batch seq"]
    inference_logprobs: Float[Tensor, "batch seq"] | None
    """None where the completions were replayed and no engine sampled them."""
    group_ids: Int[Tensor, "batch"]
    entropy: Float[Tensor, "batch seq"] | None = field(default=None, kw_only=True)
    """With `@metric(needs={"entropy"})`."""
    old_logprobs: Float[Tensor, "batch seq"] | None = field(default=None, kw_only=True)
    """With `@metric(needs={"old_logprobs"})`."""
    ref_logprobs: Float[Tensor, "batch seq"] | None = field(default=None, kw_only=True)
    """With `@metric(needs={"ref_logprobs"})`."""
    step: int = field(default=0, kw_only=True)
