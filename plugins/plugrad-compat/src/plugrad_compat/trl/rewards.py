"""Call TRL's reward functions: prompts, completions and columns in, one number or None per completion out."""

from __future__ import annotations

import asyncio
import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from threading import Thread
from typing import Any

from plugrad import ContractError, DataError, Rollout, resolve_callable
from plugrad_compat.adapters.signatures import TRL_REWARD, Signature

OURS = ("prompt", "completion", "completion_ids")
"""Columns that TRL passes under other names."""


@dataclass
class TrainerState:
    """The part of `trainer_state` that a reward function can read."""

    global_step: int
    """The number of weight updates behind the newest completion."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"trainer_state has no {name!r} here: it has only global_step.")


@dataclass
class Log:
    """What reward functions log for one batch of completions."""

    metrics: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    extras: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def log_metric(self, name: str, value: float) -> None:
        """Log a number for this batch. Several under one name are averaged."""
        self.metrics[name].append(float(value))

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        """Log one value per completion."""
        self.extras[column].extend(values)

    def write_into(self, rollouts: Sequence[Rollout]) -> None:
        """Write the metrics to every rollout, and the extra columns' values to their own rollout."""
        averages = {name: sum(values) / len(values) for name, values in self.metrics.items()}
        for index, rollout in enumerate(rollouts):
            rollout["metrics"].update(averages)
            columns = {name: values[index] for name, values in self.extras.items() if index < len(values)}
            if columns:
                rollout["info"] = {**rollout.get("info", {}), **columns}


@dataclass(frozen=True)
class RewardFunction:
    """One reward function, its weight, and the name of its reward component."""

    target: str
    name: str
    weight: float
    call: Callable[..., Any]

    def called(self, given: Mapping[str, Any]) -> Any:
        """Call the function. An asynchronous one returns an awaitable.

        Raises:
            ContractError: the function raised.
        """
        try:
            return self.call(**Signature.of(self.call).taken(given))
        except Exception as error:
            raise self._raised(error) from error

    async def awaited(self, returned: Any) -> Any:
        """Return the function's result, awaiting it if necessary.

        Raises:
            ContractError: the function raised.
        """
        try:
            return await returned if inspect.isawaitable(returned) else returned
        except Exception as error:
            raise self._raised(error) from error

    def numbers(self, values: Any, rollouts: Sequence[Rollout]) -> list[float | None]:
        """Return a number per rollout, or None where the function gives no reward.

        Raises:
            ContractError: the function did not return one value per completion.
            DataError: the function returned a value that is not a finite number.
        """
        if not isinstance(values, Sequence) and not hasattr(values, "tolist"):
            raise ContractError(f"the reward function {self.target!r} returned {type(values).__name__}; return a list.")
        listed = values if isinstance(values, Sequence) else values.tolist()
        if len(listed) != len(rollouts):
            raise ContractError(
                f"the reward function {self.target!r} returned {len(listed)} rewards for {len(rollouts)} completions. "
                "Return exactly one each, or None."
            )
        return [self._number(value, rollout) for value, rollout in zip(listed, rollouts, strict=True)]

    def _raised(self, error: Exception) -> ContractError:
        return ContractError(f"the reward function {self.target!r} raised {type(error).__name__}: {error}")

    def _number(self, value: Any, rollout: Rollout) -> float | None:
        if value is None or value != value:  # noqa: PLR0124 - NaN, which is how TRL keeps None
            return None
        if isinstance(value, bool | int | float) or hasattr(value, "item"):
            number = float(value)
            if abs(number) != float("inf"):
                return number
        raise DataError(
            f"the reward function {self.target!r} returned {value!r} for the completion {rollout['completion']!r} of "
            f"example {rollout['example'].get('example_id')!r}: a reward is a finite number, or None."
        )


def rewards_of(functions: Sequence[RewardFunction], rollouts: Sequence[Rollout], log: Log) -> dict[str, list[float | None]]:
    """Return each function's rewards by its name. Asynchronous functions run concurrently, as in TRL."""
    given = arguments(rollouts, log)
    # In this thread and first: many functions set a time limit by signal.
    returned = [function.called(given) for function in functions]
    if any(map(inspect.isawaitable, returned)):
        returned = asyncio.run_coroutine_threadsafe(_all(functions, returned), _loop()).result()
    return {function.name: function.numbers(values, rollouts) for function, values in zip(functions, returned, strict=True)}


async def _all(functions: Sequence[RewardFunction], returned: Sequence[Any]) -> list[Any]:
    return await asyncio.gather(*(f.awaited(value) for f, value in zip(functions, returned, strict=True)))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return an event loop for the whole process, since clients that a function keeps between batches belong to it."""
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="reward functions", daemon=True).start()
    return loop


def reward_functions(targets: Sequence[str], weights: Sequence[float] | None) -> list[RewardFunction]:
    """Find the functions, with their weights: 1 by default.

    Raises:
        PluginError: a function is not found.
        DataError: there are no functions, or a different number of weights.
    """
    if not targets:
        raise DataError("rewards is empty. Name at least one reward function, as file.py:function or module:function.")
    if weights is not None and len(weights) != len(targets):
        raise DataError(
            f"there are {len(targets)} reward functions but {len(weights)} weights. Give one weight each, in order."
        )
    names: list[str] = []
    functions = []
    for target, weight in zip(targets, weights or [1.0] * len(targets), strict=True):
        name = _unused(target.rpartition(":")[2].rpartition(".")[2], names)
        functions.append(RewardFunction(target, name, weight, resolve_callable(target)))
    return functions


def arguments(rollouts: Sequence[Rollout], log: Log) -> dict[str, Any]:
    """Return everything that TRL passes to a reward function, for these rollouts."""
    columns = dict.fromkeys(name for rollout in rollouts for name in rollout["example"] if name not in OURS)
    return {
        **{name: [rollout["example"].get(name) for rollout in rollouts] for name in columns},
        "prompts": [rollout["example"]["prompt"] for rollout in rollouts],
        "completions": [_completion(rollout) for rollout in rollouts],
        "completion_ids": [rollout["completion_ids"] for rollout in rollouts],
        "trainer_state": TrainerState(max((max(r["policy_versions"], default=0) for r in rollouts), default=0)),
        "log_extra": log.log_extra,
        "log_metric": log.log_metric,
    }


def missing_columns(function: RewardFunction, columns: Mapping[str, Any]) -> list[str]:
    """Return the parameters that neither TRL nor a dataset column provides."""
    given = {*TRL_REWARD.parameters, *columns} - set(OURS[:2])
    return [name for name in Signature.of(function.call).needed if name not in given]


def _completion(rollout: Rollout) -> str | list[dict[str, str]]:
    """Return the text, or a message if the prompt is a list of messages."""
    text = rollout["completion"]
    return text if isinstance(rollout["example"]["prompt"], str) else [{"role": "assistant", "content": text}]


def _unused(name: str, names: list[str]) -> str:
    """Return a name that no other component has. The name "reward" is taken by the total."""
    base = candidate = "reward_function" if name == "reward" else name
    number = 1
    while candidate in names:
        number += 1
        candidate = f"{base}_{number}"
    names.append(candidate)
    return candidate
