"""Call the advantage, check its result, and turn it into one row of advantages per rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.needs import ADVANTAGE_NEEDS
from plugrad.contracts.rollout import Rollout
from plugrad.errors import ContractError
from plugrad.host.calling import call_with_inputs
from plugrad.registry.bind import Component
from plugrad.shown import shown

OF_EXTENSIONS = "extensions"
"""The reward component that extensions make by changing the reward."""


@dataclass(frozen=True)
class BoundAdvantage:
    """The selected advantage: its component and what to call."""

    component: Component
    call: Callable[..., Any]

    @property
    def needs(self) -> frozenset[str]:
        """The optional input fields that it reads."""
        return self.component.needs

    def view(self, inputs: AdvantageInputs) -> AdvantageInputs:
        """Return the inputs without the optional fields that it does not need."""
        hidden = [name for name in ADVANTAGE_NEEDS - self.needs if getattr(inputs, name) is not None]
        unread: dict[str, Any] = dict.fromkeys(hidden)
        return replace(inputs, **unread) if hidden else inputs

    def fresh(self) -> BoundAdvantage:
        """Return the same advantage with a new instance."""
        return BoundAdvantage(self.component, self.component.create())


def compute_advantages(advantage: BoundAdvantage, inputs: AdvantageInputs) -> AdvantageOutputs:
    """Call the advantage on the groups of all ranks.

    Raises:
        ContractError: it raised, changed its inputs, or did not return one finite advantage per rollout or per completion
            token.
    """
    owner = str(advantage.component)
    outputs = call_with_inputs(owner, advantage.call, advantage.view(inputs))
    if not isinstance(outputs, AdvantageOutputs):
        raise ContractError(
            f"{owner} returned {type(outputs).__name__}; an advantage returns plugrad.AdvantageOutputs(advantages=...)."
        )
    check_advantages(owner, outputs, inputs)
    return outputs


def check_advantages(owner: str, outputs: AdvantageOutputs, inputs: AdvantageInputs) -> None:
    """Raise ContractError unless there is one finite advantage per rollout, or per completion token."""
    _check_device(owner, outputs, inputs)
    _check_shape(owner, outputs, inputs)
    _check_finite(owner, outputs)
    if outputs.returns is not None:
        _check_returns(owner, outputs.returns, inputs)


def with_prepared_rewards(inputs: AdvantageInputs) -> AdvantageInputs:
    """Return inputs whose rollouts have the rewards of `inputs.rewards`, so that both forms agree.

    If any differs from the environment's, and all rollouts have reward components, the difference becomes one more
    component. So an advantage that reads components meets what extensions changed.

    Raises:
        ContractError: the environment has a component of that name.
    """
    rewards = inputs.rewards.tolist()
    scores = [[rollout["reward"] for rollout in group] for group in inputs.rollouts]
    components = [rollout["reward_components"] for group in inputs.rollouts for rollout in group]
    split = rewards != scores and all(components)
    if split and any(OF_EXTENSIONS in names for names in components):
        raise ContractError(
            f"the environment returned a reward component {OF_EXTENSIONS!r}. That is the name of what extensions change in "
            "the reward: rename the environment's component."
        )
    rollouts = [
        [_with_reward(rollout, reward, split=split) for rollout, reward in zip(*group, strict=True)]
        for group in zip(inputs.rollouts, rewards, strict=False)
    ]
    return replace(inputs, rollouts=rollouts)


def _with_reward(rollout: Rollout, reward: float, *, split: bool) -> Rollout:
    changed = {OF_EXTENSIONS: reward - rollout["reward"]} if split else {}
    components = {**rollout["reward_components"], **changed}
    # Not Rollout(**...): a plugin may have added keys that are no names.
    return cast(Rollout, {**rollout, "reward": reward, "reward_components": components})


def per_token(outputs: AdvantageOutputs, completion_lengths: list[list[int]]) -> list[list[list[float]]]:
    """Return each rollout's advantages, one per completion token."""
    if isinstance(outputs.advantages, Tensor):
        by_rollout = outputs.advantages.detach().cpu().tolist()
        return [
            [[value] * length for value, length in zip(row, lengths, strict=True)]
            for row, lengths in zip(by_rollout, completion_lengths, strict=True)
        ]
    return [[tokens.detach().cpu().tolist() for tokens in group] for group in outputs.advantages]


def _check_device(owner: str, outputs: AdvantageOutputs, inputs: AdvantageInputs) -> None:
    groups = outputs.advantages
    tensors = [groups] if isinstance(groups, Tensor) else [tokens for group in groups for tokens in group]
    elsewhere = next((tokens.device for tokens in tensors if tokens.device != inputs.rewards.device), None)
    if elsewhere is not None:
        raise ContractError(
            f"{owner} returned advantages on {elsewhere}, but its inputs are on {inputs.rewards.device}. Return them there "
            "(.cpu()): an advantage sees the groups of all ranks, which are on the CPU."
        )


def _check_shape(owner: str, outputs: AdvantageOutputs, inputs: AdvantageInputs) -> None:
    if isinstance(outputs.advantages, Tensor):
        found: Any = tuple(outputs.advantages.shape)
        expected: Any = tuple(inputs.rewards.shape)
    else:
        # beartype checks one random element of a list, so check all of them here.
        found = [[len(t) if t.ndim == 1 else tuple(t.shape) for t in group] for group in outputs.advantages]
        expected = inputs.completion_lengths.tolist()
    if found != expected:
        raise ContractError(
            f"{owner} returned advantages of shape {found}; the inputs have {expected}. Return one advantage per rollout "
            "[num_examples, rollouts_per_example], or a list with one advantage per completion token of each rollout."
        )


def _check_returns(owner: str, returns: list[list[Tensor]], inputs: AdvantageInputs) -> None:
    found = [[len(tokens) for tokens in group] for group in returns]
    if found != inputs.completion_lengths.tolist():
        raise ContractError(
            f"{owner} returned returns of lengths {shown(found)}; the completions have "
            f"{shown(inputs.completion_lengths.tolist())} tokens. Return one tensor per rollout with one number per "
            "completion token: the value after the last token has no return."
        )
    if not all(bool(torch.isfinite(tokens).all()) for group in returns for tokens in group):
        raise ContractError(f"{owner} returned returns that are not finite. A critic trained on them would become NaN.")


def _check_finite(owner: str, outputs: AdvantageOutputs) -> None:
    groups = outputs.advantages
    for index, group in enumerate(groups):
        finite = all(bool(torch.isfinite(tokens).all()) for tokens in group)
        if not finite:
            raise ContractError(
                f"{owner} returned an advantage that is not finite for example {index} of the batch. It would turn the "
                "whole policy into NaN. Handle groups with equal rewards or too few rollouts."
            )
