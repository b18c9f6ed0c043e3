"""What a plugin received, remembered so that a change of it can be named: tensors, and rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from plugrad.contracts.rollout import Rollout

WRITTEN_BY_SCORE = frozenset({"reward", "reward_components", "metrics", "info", "trajectory"})
"""Keys of a rollout that an environment's `score` may write. It may add keys of its own."""


@dataclass(frozen=True)
class Received:
    """The tensors and rollouts of a plugin's inputs before the call.

    PyTorch counts in-place changes of every tensor, including views, so that tensors need no copy. Rollouts are copied.
    """

    tensors: Mapping[str, tuple[Tensor, int]]
    groups: Sequence[Sequence[Rollout]]

    @classmethod
    def of(cls, inputs: Any, groups: Sequence[Sequence[Rollout]] | None = None) -> Received:
        """Remember the inputs, before the call.

        Args:
            groups: copies of the rollouts that belong to nobody else, where the caller has some: they are the costly part.
        """
        tensors = {name: (value, value._version) for name, value in _fields(inputs).items() if isinstance(value, Tensor)}
        return cls(tensors, copies_of_groups(getattr(inputs, "rollouts", [])) if groups is None else groups)

    def changed(self, inputs: Any) -> str | None:
        """Return the field that changed since, or None."""
        now = _fields(inputs)
        for name, (tensor, version) in self.tensors.items():
            if now.get(name) is not tensor or tensor._version != version:
                return name
        groups: Sequence[Sequence[Rollout]] = now.get("rollouts", [])
        if [len(group) for group in groups] != [len(group) for group in self.groups]:
            return "rollouts"
        rollouts = (pair for group in zip(groups, self.groups, strict=True) for pair in zip(*group, strict=True))
        return "rollouts" if any(changed_key(*pair, frozenset()) for pair in rollouts) else None


def _fields(inputs: Any) -> dict[str, Any]:
    """Return the fields, and a loss's parameters each under a name of its own."""
    parameters: Mapping[str, Tensor] = getattr(inputs, "parameters", None) or {}
    return {**vars(inputs), **{f"parameters[{name!r}]": value for name, value in parameters.items()}}


def copies_of_groups(groups: Sequence[Sequence[Rollout]]) -> list[list[Rollout]]:
    """Return copies of the rollouts of every group."""
    return [copies(group) for group in groups]


def copies(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """Return copies whose lists and mappings belong to nobody else."""
    return [_copy(rollout) for rollout in rollouts]


def changed_key(rollout: Mapping[str, Any], before: Mapping[str, Any], may_write: frozenset[str]) -> str | None:
    """Return the first key of `before` whose value is missing, or another one now; keys in `may_write` do not count."""
    # Python's own comparison, which needs no call for each value, comes first: almost always nothing changed.
    if _equal(rollout, before) and [*map(type, rollout.values())] == [*map(type, before.values())]:
        return None
    for name, value in before.items():
        if name not in may_write and (name not in rollout or not _same(rollout[name], value)):
            return name
    return None


def _copy(rollout: Rollout) -> Rollout:
    items: Mapping[str, Any] = rollout
    copied: Any = {name: value.copy() if type(value) in (list, dict) else value for name, value in items.items()}
    return copied  # type: ignore[no-any-return]


def _equal(now: Any, before: Any) -> bool:
    """Return whether Python calls two values equal."""
    try:
        return bool(now == before)
    except Exception:
        # Arrays and the like have no single truth: another object is a change.
        return False


def _same(now: Any, before: Any) -> bool:
    """Return whether two values are equal. Within lists and mappings, Python compares objects by identity first."""
    if now is before:
        return True
    if type(now) is not type(before):
        return False
    if isinstance(now, dict):
        return now.keys() == before.keys() and all(_same(now[name], value) for name, value in before.items())
    return _equal(now, before)
