"""Further passes of a policy that does not exist, made up from the log-probs, for trying losses without a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from plugrad.contracts.loss import AnotherPass, BatchLossInputs
from plugrad.formulas.ratios import at_least_float32

WIDTH = 8
STRENGTH = 0.1


@dataclass(frozen=True)
class MadeUpPasses:
    """log pi(shift) = log pi * exp(c tanh <shift, u>), and the entropy divided by that factor, with a fixed direction u.

    Each token depends on its own embedding alone. Masked slots hold the values of the first pass.
    """

    inputs: BatchLossInputs
    strength: float = STRENGTH
    """c."""

    @classmethod
    def of(cls, inputs: BatchLossInputs) -> MadeUpPasses:
        """Return those of these inputs, as strong as the ones that they have."""
        before = getattr(inputs.again, "__self__", None)
        return cls(inputs, before.strength if isinstance(before, MadeUpPasses) else STRENGTH)

    def again(self, shift: Float[Tensor, "batch seq hidden"]) -> AnotherPass:
        """Return what a policy gives with shifted embeddings."""
        logprobs, entropy = self.inputs.trainer_logprobs, self.inputs.entropy
        factor = (self.strength * (shift.to(self._direction.dtype) @ self._direction).tanh()).exp()
        mask = self.inputs.loss_mask
        return AnotherPass(
            torch.where(mask, logprobs * factor, logprobs),
            None if entropy is None else torch.where(mask, entropy / factor, entropy),
        )

    def sensitivity(self, total: Float[Tensor, ""]) -> Float[Tensor, "batch seq hidden"]:
        """Return the derivative of a total with respect to the embeddings."""
        pairs = ((self.inputs.trainer_logprobs, 1.0), (self.inputs.entropy, -1.0))
        given = [(value, sign) for value, sign in pairs if value is not None and value.requires_grad]
        slopes = torch.autograd.grad(total, [value for value, _ in given], retain_graph=True, allow_unused=True)
        of_tokens = torch.zeros_like(self.inputs.loss_mask, dtype=self._direction.dtype)
        for (value, sign), slope in zip(given, slopes, strict=True):
            if slope is not None:
                of_tokens = of_tokens + torch.where(
                    self.inputs.loss_mask, sign * self.strength * slope * value.detach(), 0.0
                )
        return of_tokens.unsqueeze(2) * self._direction

    @property
    def _direction(self) -> Float[Tensor, "hidden"]:
        own = at_least_float32(self.inputs.trainer_logprobs)
        steps = torch.arange(1, WIDTH + 1, dtype=own.dtype, device=own.device).sin()
        unit: Tensor = steps / steps.norm()
        return unit
