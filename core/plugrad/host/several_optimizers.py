"""Several optimizers as one: for a class that takes matrices alone, and another one for everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer


def plain_step(optimizer: Optimizer) -> None:
    """Let an optimizer make its update as it does by itself."""
    optimizer.step()


class SeveralOptimizers(Optimizer):
    """Optimizers of different parameters that step together: one schedule, and one bound on the norm of the gradient.

    Their groups are those of the first, then those of the second and so on.
    """

    def __init__(self, parts: Sequence[Optimizer], step: Callable[[Optimizer], object] = plain_step) -> None:
        """Join them.

        Args:
            parts: the optimizers.
            step: lets one of them update its parameters.
        """
        # Not the initialiser of PyTorch's class, which would want parameters: the parts have them.
        self.parts = list(parts)
        self.step_of = step
        self.defaults = self.parts[0].defaults

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of all."""
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> Mapping[Any, Any]:  # type: ignore[override]
        """The state of all, by parameter: a copy. What writes it writes to the parts."""
        return {parameter: kept for part in self.parts for parameter, kept in part.state.items()}

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the parameters of all."""
        for part in self.parts:
            self.step_of(part)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the states of all."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of."""
        return {"parts": self.parts, "step_of": self.step_of, "defaults": self.defaults}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parts})"
