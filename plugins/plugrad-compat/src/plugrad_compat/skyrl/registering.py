"""How a SkyRL file defines a loss and registers it under a name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from plugrad_compat.adapters.registries import Registry

Function = TypeVar("Function", bound=Callable[..., Any])
POLICY_LOSSES = Registry("SkyRL policy loss")
ADVANTAGE_ESTIMATORS = Registry("SkyRL advantage estimator")


class PolicyLoss(ABC):
    """The base class of SkyRL's documented class style."""

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


def register_advantage_estimator(name: Any) -> Callable[[Function], Function]:
    """Register an advantage estimator under a name."""
    return lambda function: ADVANTAGE_ESTIMATORS.register(name, function)


class _FunctionRegistry:
    """SkyRL's registry classes, limited to what a file that defines something uses."""

    _entries: Registry

    @classmethod
    def register(cls, name: Any, func: Callable[..., Any]) -> None:
        """Register a function under a name."""
        cls._entries.register(name, func)

    @classmethod
    def get(cls, name: Any) -> Callable[..., Any]:
        """Return what is registered under a name.

        Raises:
            PluginError: nothing is. The message lists what is registered.
        """
        found: Callable[..., Any] = cls._entries.named(name)
        return found

    @classmethod
    def list_available(cls) -> list[str]:
        """Return the registered names."""
        return cls._entries.names()


class PolicyLossRegistry(_FunctionRegistry):
    """The registry of policy losses."""

    _entries = POLICY_LOSSES


class AdvantageEstimatorRegistry(_FunctionRegistry):
    """The registry of advantage estimators."""

    _entries = ADVANTAGE_ESTIMATORS
