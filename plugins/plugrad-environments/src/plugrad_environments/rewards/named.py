"""From the names in a run file to rewards, their options and weights, and from their numbers to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from plugrad import DataError, OptionError, Rollout
from plugrad_compat.trl.environment import with_unscorable
from plugrad_environments.rewards.code_tests import CodeTests
from plugrad_environments.rewards.exact_match import ExactMatch
from plugrad_environments.rewards.json_schema import JsonSchema
from plugrad_environments.rewards.math_answers import MathVerify
from plugrad_environments.rewards.own_functions import own_reward
from plugrad_environments.rewards.patterns import Pattern
from plugrad_environments.rewards.reward import Reward
from plugrad_environments.wording import among, cut, listed

KNOWN: Mapping[str, Any] = {
    "exact_match": ExactMatch,
    "math_verify": MathVerify,
    "json_schema": JsonSchema,
    "regex": Pattern,
    "code_tests": CodeTests,
}
TOTAL = "reward"


@dataclass(frozen=True)
class Weighted:
    """One reward of several: its name in the records, and its weight in the sum."""

    name: str
    weight: float
    reward: Reward


def rewards_named(
    names: Sequence[str], weights: Sequence[float] | None, options: Mapping[str, Mapping[str, Any]]
) -> list[Weighted]:
    """Find rewards by name or reference.

    Raises:
        OptionError: a name, an option or the number of weights is wrong.
        PluginError: a function is not found.
    """
    for name in names:
        if ":" not in name and name not in KNOWN:
            raise OptionError(
                f"no reward is called {cut(name)}.{among(name, KNOWN)} There are {listed(KNOWN)}, and functions of your "
                "own: `file.py:function` or `module:function`."
            )
    if weights is not None and len(weights) != len(names):
        raise OptionError(
            f"rewards: {listed(names)}; weights: {listed(weights)}. Give each reward one weight, in order, or drop weights."
        )
    for name in options:
        if name not in names or name not in KNOWN:
            raise OptionError(
                f"reward_kwargs has options for {cut(name)}, which is no named reward of this run ({listed(names)}). "
                f"Options are for those of {listed(KNOWN)}."
            )
    if repeated := [name for number, name in enumerate(names) if name in names[:number]]:
        raise OptionError(f"the reward {repeated[0]!r} is named twice. Give it a weight instead.")
    found: list[Weighted] = []
    for name, weight in zip(names, weights or [1.0] * len(names), strict=True):
        reward = own_reward(name) if ":" in name else _known(name, options.get(name, {}))
        found.append(Weighted(_unused(name, [one.name for one in found]), weight, reward))
    return found


def scores_of(rewards: Sequence[Weighted], rollouts: Sequence[Rollout]) -> list[float | Mapping[str, float]]:
    """Return each rollout's score: the reward, and for several rewards also the number of each one, before its weight.

    A reward that is None adds nothing; where all are None, the rollout gets the mean of its example's others.
    """
    columns = [list(one.reward.scores(rollouts)) for one in rewards]
    totals: list[float | None] = []
    rows: list[dict[str, float]] = []
    for values in zip(*columns, strict=True):
        row: dict[str, float] = {}
        known: list[float] = []
        for one, value in zip(rewards, values, strict=True):
            if value is None:
                continue
            parts = value if isinstance(value, Mapping) else {}
            number = float(parts.get(TOTAL, sum(parts.values())) if isinstance(value, Mapping) else value)
            row |= {f"{one.name}/{part}": amount for part, amount in parts.items() if part != TOTAL} | {one.name: number}
            known.append(one.weight * number)
        rows.append(row)
        totals.append(sum(known) if known else None)
    filled = with_unscorable(totals, rollouts)
    if all(len(row) <= 1 for row in rows) and len(rewards) == 1:
        return list(filled)
    return [{**row, TOTAL: total} for row, total in zip(rows, filled, strict=True)]


def _known(name: str, options: Mapping[str, Any]) -> Reward:
    kind = KNOWN[name]
    fields = [field for field in kind.__dataclass_fields__ if not field.startswith("_")]
    for option in options:
        if option not in fields:
            raise OptionError(
                f"reward_kwargs.{name} has no option {cut(option)}.{among(option, fields)} It takes {listed(fields)}."
            )
    try:
        reward: Reward = TypeAdapter(kind).validate_python(dict(options), strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        missing = f"set {place}, which has no default" if first["type"] == "missing" else ""
        wrong = missing or f"{place or 'it'} = {cut(first['input'])} is wrong: {first['msg']}"
        raise OptionError(f"reward_kwargs.{name}: {wrong}. It takes {listed(fields)}.") from error
    return reward


def _unused(name: str, names: Sequence[str]) -> str:
    """Return the name of a reward in the records: a function's own name, with a number where another has it."""
    base = candidate = name.rpartition(":")[2].rpartition(".")[2] if ":" in name else name
    base = candidate = "reward_function" if base == TOTAL else candidate
    number = 1
    while candidate in names:
        number += 1
        candidate = f"{base}_{number}"
    return candidate


def no_reward(rollouts: Sequence[Rollout]) -> list[float | Mapping[str, float]]:
    """Return 0 for completions that are replayed.

    Raises:
        DataError: one was sampled.
    """
    if any(rollout["inference_logprobs"] is not None for rollout in rollouts):
        raise DataError(
            "the environment 'hf' has no reward for a sampled completion. Set reward under [environment.kwargs] to one of "
            f'{listed(KNOWN)} or to a function of your own. Only replayed references (rollout.engine = "dataset", no '
            "evaluation) need none."
        )
    return [0.0] * len(rollouts)
