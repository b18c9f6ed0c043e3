"""How a verl file registers a loss or an advantage estimator under a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from plugrad_compat.adapters.registries import Registry

Function = TypeVar("Function", bound=Callable[..., Any])
POLICY_LOSSES = Registry("verl policy loss")
ADVANTAGE_ESTIMATORS = Registry("verl advantage estimator")


def register_policy_loss(name: str) -> Callable[[Function], Function]:
    """Register a policy loss under a name."""
    return lambda function: POLICY_LOSSES.register(name, function)


def register_adv_est(name_or_enum: Any) -> Callable[[Function], Function]:
    """Register an advantage estimator under a name."""
    return lambda function: ADVANTAGE_ESTIMATORS.register(name_or_enum, function)


def get_policy_loss_fn(name: str) -> Callable[..., Any]:
    """Return the policy loss of that name.

    Raises:
        PluginError: none is registered under it. The message lists those that are.
    """
    found: Callable[..., Any] = POLICY_LOSSES.named(name)
    return found


def get_adv_estimator_fn(name_or_enum: Any) -> Callable[..., Any]:
    """Return the advantage estimator of that name.

    Raises:
        PluginError: none is registered under it. The message lists those that are.
    """
    found: Callable[..., Any] = ADVANTAGE_ESTIMATORS.named(name_or_enum)
    return found
