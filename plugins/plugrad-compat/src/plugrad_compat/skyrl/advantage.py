"""The advantage `skyrl`: a SkyRL advantage estimator from your own file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugrad import AdvantageInputs, AdvantageOutputs, CallableReference, advantage
from plugrad_compat.adapters.estimator import Estimator
from plugrad_compat.adapters.signatures import SKYRL_ADVANTAGE
from plugrad_compat.skyrl.configs import DEFAULTS, AlgorithmConfig
from plugrad_compat.skyrl.registering import ADVANTAGE_ESTIMATORS

BY_NAME = ("gamma", "lambd", "grpo_norm_by_std")
"""Config keys that SkyRL also passes to an estimator by name."""


@advantage()
class SkyrlAdvantage:
    """A_t of a SkyRL advantage estimator, for every token of every rollout.

    Args:
        target: `file.py:name` or `module:name` of the function, or a name that the file registers.
        config: the estimator's config. It overrides SkyRL's defaults.
        kwargs: further keyword arguments.
    """

    def __init__(
        self, target: CallableReference, config: dict[str, Any] | None = None, kwargs: dict[str, Any] | None = None
    ) -> None:
        found = ADVANTAGE_ESTIMATORS.find(target)
        self._estimator = Estimator.of(target, SKYRL_ADVANTAGE, found, AlgorithmConfig(config or {}, DEFAULTS), kwargs or {})

    def __call__(self, inputs: AdvantageInputs) -> AdvantageOutputs:
        """Return one advantage per completion token."""
        config = self._estimator.config
        return self._estimator.advantages(inputs, {name: config[name] for name in BY_NAME})

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: an estimator is a function, and which keys it has read of its config does not matter."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""
