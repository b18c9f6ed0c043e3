"""How a SkyRL file defines a loss and gives it a name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from plugrad_compat.adapters.registries import Registry

POLICY_LOSSES = Registry("SkyRL policy loss")


class PolicyLoss(ABC):
    """The base of SkyRL's documented class style."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def compute_loss(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, masks: Tensor, **kwargs: Any
    ) -> Tensor:
        """Return a scalar from tensors `[batch, seq_len]`."""


def register_policy_loss(name: Any, target: Callable[..., Any] | None = None) -> Any:
    """Register a loss under a name: `register_policy_loss("mine", MyLoss)`, or `@register_policy_loss("mine")`."""
    if target is not None:
        return POLICY_LOSSES.register(name, target)
    return lambda decorated: POLICY_LOSSES.register(name, decorated)


class PolicyLossRegistry:
    """SkyRL's registry class, as far as a file that defines a loss uses it."""

    @classmethod
    def register(cls, name: Any, func: Callable[..., Any]) -> None:
        """Register a loss under a name."""
        POLICY_LOSSES.register(name, func)

    @classmethod
    def list_available(cls) -> list[str]:
        """Return the names that are registered."""
        return POLICY_LOSSES.names()
