"""The advantage `verl`: a verl advantage estimator from your own file, or one of verl's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugrad import AdvantageInputs, AdvantageOutputs, CallableReference, advantage
from plugrad_compat.adapters.estimator import Estimator
from plugrad_compat.adapters.signatures import VERL_ADVANTAGE, Signature
from plugrad_compat.verl.configs import AlgoConfig
from plugrad_compat.verl.registering import ADVANTAGE_ESTIMATORS

DEFAULTS = {
    "gamma": 1.0,
    "lam": 1.0,
    "adv_estimator": "gae",
    "norm_adv_by_std_in_grpo": True,
    "use_kl_in_reward": False,
    "gdpo_reward_keys": None,
    "gdpo_reward_weights": None,
}
"""Defaults of verl's `algorithm` (`verl/trainer/config/algorithm.py`). `config` overrides them."""
GREEDY, NORM = "reward_baselines", "norm_adv_by_std_in_grpo"


def needs_of(options: Mapping[str, Any]) -> frozenset[str]:
    """Return the estimator's needs: the greedy rewards, if it has a parameter for them."""
    takes = Signature.of(ADVANTAGE_ESTIMATORS.find(str(options["target"])))
    return frozenset({"greedy_rewards"} if GREEDY in takes.names else ())


@advantage(needs=needs_of)
class VerlAdvantage:
    """A_t of a verl advantage estimator, for every token of every rollout.

    Args:
        target: `file.py:name` or `module:name` of the function, or a name that the file registers.
        config: the estimator's config. It overrides the defaults of verl's algorithm.
        kwargs: further keyword arguments.
    """

    def __init__(
        self, target: CallableReference, config: dict[str, Any] | None = None, kwargs: dict[str, Any] | None = None
    ) -> None:
        found = ADVANTAGE_ESTIMATORS.find(target)
        self._estimator = Estimator.of(target, VERL_ADVANTAGE, found, AlgoConfig(config or {}, DEFAULTS), kwargs or {})

    def __call__(self, inputs: AdvantageInputs) -> AdvantageOutputs:
        """Return one advantage per completion token."""
        takes, greedy = self._estimator.signature.names, inputs.greedy_rewards
        more: dict[str, Any] = {NORM: self._estimator.config[NORM]} if NORM in takes else {}
        if greedy is not None:
            more[GREEDY] = greedy.repeat_interleave(inputs.rewards.shape[1])
        return self._estimator.advantages(inputs, more)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: an estimator is a function, and which keys it has read of its config does not matter."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""
