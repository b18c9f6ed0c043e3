"""The advantage `verl`: a verl advantage estimator from the user's own file, or verl's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plugrad import AdvantageInputs, AdvantageOutputs, CallableReference, ContractError, advantage
from plugrad_compat.adapters.config import Config
from plugrad_compat.adapters.notices import notice
from plugrad_compat.adapters.signatures import VERL_ADVANTAGE, Signature, checked_signature
from plugrad_compat.verl.registering import ADVANTAGE_ESTIMATORS

DEFAULTS = {"gamma": 1.0, "lam": 1.0, "adv_estimator": "grpo", "norm_adv_by_std_in_grpo": True, "use_kl_in_reward": False}
"""Of verl's `algorithm`, below what `config` says."""
GREEDY = "reward_baselines"


def needs_of(options: Mapping[str, Any]) -> frozenset[str]:
    """Return what the estimator needs: the greedy rewards, if it has a parameter for them."""
    takes = Signature.of(ADVANTAGE_ESTIMATORS.find(str(options["target"])))
    return frozenset({"greedy_rewards"} if GREEDY in takes.names else ())


@advantage(needs=needs_of)
class VerlAdvantage:
    """A_t of a verl advantage estimator, for every token of every rollout.

    Args:
        target: `file.py:name` or `module:name` of the function, or a name that the file registers.
        config: what the estimator is given as its config; the defaults of verl's algorithm lie below it.
        kwargs: what it takes besides, by name.
    """

    def __init__(
        self, target: CallableReference, config: dict[str, Any] | None = None, kwargs: dict[str, Any] | None = None
    ) -> None:
        self._target = target
        self._estimator = ADVANTAGE_ESTIMATORS.find(target)
        self._kwargs = kwargs or {}
        self._signature = checked_signature(target, self._estimator, VERL_ADVANTAGE, self._kwargs)
        self._config = Config(config or {}, DEFAULTS)

    def __call__(self, inputs: AdvantageInputs) -> AdvantageOutputs:
        """Return one advantage per completion token."""
        mask = _response_mask(inputs.completion_lengths)
        returned = self._estimator(**self._signature.taken(self._given(inputs, mask)), **self._kwargs)
        advantages = returned[0] if isinstance(returned, tuple) else returned
        self._check(advantages, mask)
        for key in self._config.unread():
            notice(f"{self._target!r} has never read {key!r} of its config: it has no effect, or another name.")
        return AdvantageOutputs(_in_groups(advantages.to(inputs.rewards), inputs.completion_lengths))

    def _given(self, inputs: AdvantageInputs, mask: Tensor) -> dict[str, Any]:
        num_examples, per_example = inputs.rewards.shape
        greedy = inputs.greedy_rewards
        return {
            "token_level_rewards": _at_the_last_token(inputs.rewards.flatten(), inputs.completion_lengths.flatten(), mask),
            "response_mask": mask.to(inputs.rewards),
            "index": np.array([str(example) for example in range(num_examples) for _ in range(per_example)], dtype=object),
            "config": self._config,
            GREEDY: None if greedy is None else greedy.repeat_interleave(per_example),
        }

    def _check(self, advantages: Any, mask: Tensor) -> None:
        if not isinstance(advantages, Tensor) or advantages.shape != mask.shape:
            found = tuple(advantages.shape) if isinstance(advantages, Tensor) else type(advantages).__name__
            raise ContractError(
                f"{self._target!r} returned advantages of {found}; {VERL_ADVANTAGE.name} returns (advantages, returns), "
                f"both [batch, response_length], here {list(mask.shape)}."
            )


def _response_mask(lengths: Tensor) -> Tensor:
    longest = max(int(lengths.max()), 1)
    return torch.arange(longest) < lengths.flatten().unsqueeze(1)


def _at_the_last_token(rewards: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
    """Return `[batch, response_length]` with each reward at its completion's last token, as verl's outcome rewards are."""
    rows = rewards.new_zeros(mask.shape)
    rows[torch.arange(len(rows)), (lengths - 1).clamp(min=0)] = rewards
    return rows


def _in_groups(advantages: Tensor, lengths: Tensor) -> list[list[Tensor]]:
    per_example = lengths.shape[1]
    rows = [row[:length] for row, length in zip(advantages, lengths.flatten().tolist(), strict=True)]
    return [rows[start : start + per_example] for start in range(0, len(rows), per_example)]
