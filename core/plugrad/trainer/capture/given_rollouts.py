"""What an advantage was given when it failed, the rollouts of all ranks, as tensors and JSON have it, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any, cast

import torch
from torch import Tensor

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.contracts.rollout import Rollout

GIVEN = "given/"
OF_TOKENS: Mapping[str, torch.dtype] = {
    "prompt_ids": torch.long,
    "completion_ids": torch.long,
    "inference_logprobs": torch.double,
    "policy_versions": torch.long,
}
"""Fields of a rollout with one number a token: tensors hold those of all rollouts, one after another."""
OF_MODELS = ("values", "old_logprobs", "ref_logprobs", "teacher_logprobs")


def given_apart(given: AdvantageInputs) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the inputs of an advantage as facts and tensors. In the facts, a number of tokens stands for the tokens."""
    every = [cast(dict[str, Any], rollout) for rollout in chain.from_iterable(given.rollouts)]
    tensors = {}
    for name, dtype in OF_TOKENS.items():
        numbers = [number for rollout in every for number in rollout[name] or ()]
        tensors[f"{GIVEN}{name}"] = torch.tensor(numbers, dtype=dtype)
    for name in OF_MODELS:
        rows: list[list[Tensor]] | None = getattr(given, name)
        if rows is not None:
            tensors[f"{GIVEN}{name}"] = torch.cat([torch.zeros(0, dtype=torch.double), *chain.from_iterable(rows)])
    if given.greedy_rewards is not None:
        tensors[f"{GIVEN}greedy_rewards"] = given.greedy_rewards
    return {"rollouts": [[_without_tokens(rollout) for rollout in group] for group in given.rollouts]}, tensors


def given_again(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> AdvantageInputs:
    """Return the inputs of an advantage from their facts and tensors."""
    groups: list[list[dict[str, Any]]] = facts["rollouts"]
    every = list(chain.from_iterable(groups))
    lengths = [rollout["completion_ids"] for rollout in every]
    of_tokens = {name: _rows(tensors[f"{GIVEN}{name}"], [rollout[name] or 0 for rollout in every]) for name in OF_TOKENS}
    made = [
        cast(
            Rollout, rollout | {name: rows[place].tolist() for name, rows in of_tokens.items() if rollout[name] is not None}
        )
        for place, rollout in enumerate(every)
    ]
    models: dict[str, Any] = {
        name: _in_groups(_rows(tensors[f"{GIVEN}{name}"], [length + (name == "values") for length in lengths]), groups)
        for name in OF_MODELS
        if f"{GIVEN}{name}" in tensors
    }
    return AdvantageInputs(rollouts=_in_groups(made, groups), greedy_rewards=tensors.get(f"{GIVEN}greedy_rewards"), **models)


def _without_tokens(rollout: Rollout) -> dict[str, Any]:
    fields = cast(dict[str, Any], rollout)
    return fields | {name: None if fields[name] is None else len(fields[name]) for name in OF_TOKENS}


def _rows(values: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    return [values[start:end] for start, end in pairwise([0, *accumulate(lengths)])]


def _in_groups(rows: Sequence[Any], groups: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(rows[start:end]) for start, end in pairwise([0, *accumulate(map(len, groups))])]
