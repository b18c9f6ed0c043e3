"""The user's own reward functions, in plugrad's form or TRL's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from plugrad import ContractError, DataError, PluginError, Rollout, resolve_callable
from plugrad_compat.trl.rewards import Log, RewardFunction, missing_columns, reward_functions, rewards_of
from plugrad_environments.rewards.reward import Reward, Value
from plugrad_environments.wording import cut, listed


def own_reward(reference: str) -> Reward:
    """Return the reward of `module:function` or `file.py:function`. TRL's form is known by its parameter `completions`.

    Raises:
        PluginError: it does not exist, or has neither form.
    """
    function = resolve_callable(reference)
    try:
        parameters = signature(function).parameters
    except (TypeError, ValueError) as error:
        raise PluginError(f"the parameters of the reward function {reference!r} cannot be read: {error}.") from error
    if "completions" in parameters:
        return OfTrl(reward_functions([reference], None)[0])
    try:
        signature(function).bind("completion", {})
    except TypeError as error:
        raise PluginError(
            f"the reward function {reference!r} takes ({listed(parameters)}). Write it as (completion, example), or in "
            "TRL's form: (prompts, completions, **columns)."
        ) from error
    return Own(reference, function)


@dataclass(frozen=True)
class Own:
    """`(completion: str, example: Mapping) -> float | Mapping[str, float]`."""

    reference: str
    call: Callable[[str, Mapping[str, Any]], Any]

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Nothing is known of the columns that it reads."""

    def scores(self, rollouts: Sequence[Rollout]) -> list[Value]:
        """Call the function on each completion.

        Raises:
            ContractError: it raised.
            DataError: it returned something other than finite numbers.
        """
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> Value:
        what = f"completion {cut(rollout['completion'])} of example {cut(rollout['example'].get('example_id'))}"
        try:
            found = self.call(rollout["completion"], rollout["example"])
        except Exception as error:
            raise ContractError(
                f"the reward function {self.reference} raised {type(error).__name__}: {error} ({what})."
            ) from error
        values = found if isinstance(found, Mapping) else {"": found}
        if bad := [value for value in values.values() if not _is_finite(value)]:
            raise DataError(
                f"the reward function {self.reference} returned {cut(bad[0])}, which is not a finite number ({what})."
            )
        return {str(key): float(value) for key, value in found.items()} if isinstance(found, Mapping) else float(found)


@dataclass(frozen=True)
class OfTrl:
    """`(prompts, completions, **columns) -> list[float | None]`, as plugrad-compat calls it."""

    function: RewardFunction

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Check that the dataset has the columns that the function asks for."""
        columns = examples[0] if examples else {}
        if missing := missing_columns(self.function, columns):
            raise DataError(
                f"the reward function {self.function.target!r} asks for {listed(map(repr, missing))}. The dataset has "
                f"{listed(name for name in columns if name != 'example_id')}."
            )

    def scores(self, rollouts: Sequence[Rollout]) -> list[Value]:
        """Call the function once on all completions."""
        log = Log()
        (values,) = rewards_of([self.function], rollouts, log).values()
        log.write_into(rollouts)
        return list(values)


def _is_finite(value: Any) -> bool:
    try:
        return not isinstance(value, str | bytes) and math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False
