"""What a metric receives. It returns a mapping from names to measures, tensors or floats."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from plugrad.contracts.checked_fields import checked_fields
from plugrad.contracts.rollout import Rollout


@checked_fields
@dataclass(frozen=True, kw_only=True)
class MetricInputs:
    """One rank's share of an optimizer batch, or of held-out completions, in whole groups. Tensors are detached.
    Rows are the rollouts in order.

    The policy's numbers are from before the update. Log-probs and entropy are in nats, and zero where `loss_mask` is False.
    Optional fields are None unless the metric requests them with `@metric(needs={...})`.
    """

    rollouts: list[list[Rollout]]
    """`rollouts[i][j]` is the j-th rollout of the i-th example of this share."""
    rewards: Float[Tensor, "batch"]
    """As the environment scored them."""
    advantages: Float[Tensor, "batch seq"]
    """As the losses saw them."""
    loss_mask: Bool[Tensor, "batch seq"]
    """True where the token was sampled and counts. False in the prompt and in padding."""
    trainer_logprobs: Float[Tensor, "batch seq"]
    """log pi_theta before the update."""
    inference_logprobs: Float[Tensor, "batch seq"] | None
    """log mu, from the engine. None for replayed completions, which no engine sampled."""
    group_ids: Int[Tensor, "batch"]
    """Rows with the same number are rollouts of the same prompt."""
    entropy: Float[Tensor, "batch seq"] | None = None
    """The entropy of pi_theta at this position, at the sampling temperature."""
    old_logprobs: Float[Tensor, "batch seq"] | None = None
    """log pi before the first update on this batch of rollouts."""
    ref_logprobs: Float[Tensor, "batch seq"] | None = None
    """log pi_ref, from the frozen reference model."""
    values: Float[Tensor, "batch seq"] | None = None
    """The critic's values before the update. Entry t is V of the state in which token t was chosen."""
    old_values: Float[Tensor, "batch seq"] | None = None
    """The critic's values before the first update on this batch of rollouts."""
    returns: Float[Tensor, "batch seq"] | None = None
    """What the values are trained on: `AdvantageOutputs.returns`."""
    step: int = 0
    """The batch of rollouts, counted from 0."""
    policy_version: int = 0
    """The number of weight updates behind the policy, before this one. `policy_versions` of a rollout count the same way."""
