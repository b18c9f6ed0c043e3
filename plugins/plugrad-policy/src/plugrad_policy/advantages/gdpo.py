"""GDPO: normalise each reward component on its own, then sum (arXiv:2601.05242)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from plugrad import AdvantageInputs, AdvantageOutputs, ContractError, OptionError, advantage, equal_rewards

OF_EXTENSIONS = "extensions"
"""The component in which core puts what extensions changed in the reward."""


# Equal rewards may have unequal components, which give a signal.
@advantage(min_rollouts_per_example=2, mixes_groups=True, signal_from_equal_rewards=True)
def gdpo(
    inputs: AdvantageInputs,
    weights: dict[str, float] | None = None,
    eps: Annotated[float, Field(gt=0)] = 1e-4,
) -> AdvantageOutputs:
    """A = (s - mean s) / (std s + eps),  s_ij = sum_k w_k (r_ijk - mean_j r_ijk) / (std_j r_ijk + eps).

    Summing first and normalising second would let a high-variance component drown out the others. k runs over the
    components of the score, as the environment returned them. Standard deviations are unbiased, as in TRL. The outer
    one is over the rollouts of the whole batch. A group whose components are all equal has an advantage of 0.

    If an extension changes the reward, as `length_penalty` does, the change r' - r is one more component, `extensions`.
    Like the others it is normalised on its own: its weight says how much it counts, and not its size.

    Args:
        weights: w_k by name. A component without a weight here weighs 1.
        eps: added to both standard deviations. The default is TRL's.

    Raises:
        ContractError: the rollouts have no components, or not all the same ones.
        OptionError: a weight names an unknown component.
    """
    components = _components(inputs)
    given = weights or {}
    unknown = sorted(set(given) - {*components, OF_EXTENSIONS})
    if unknown:
        raise OptionError(f"[advantage] 'gdpo': there is no component {unknown[0]!r}. There are {', '.join(components)}.")
    normalised = (given.get(name, 1.0) * _normalised(values, eps) for name, values in components.items())
    total = torch.stack(list(normalised)).sum(dim=0)
    equal = torch.stack([equal_rewards(values) for values in components.values()]).all(dim=0)
    return AdvantageOutputs(torch.where(equal, 0.0, (total - total.mean()) / (total.std() + eps)))


def _normalised(values: Tensor, eps: float) -> Tensor:
    normalised = (values - values.mean(dim=1, keepdim=True)) / (values.std(dim=1, keepdim=True) + eps)
    return torch.where(equal_rewards(values), 0.0, normalised)


def _components(inputs: AdvantageInputs) -> dict[str, Tensor]:
    """Return the components by name, each `[num_examples, rollouts_per_example]`."""
    groups = [[rollout["reward_components"] for rollout in group] for group in inputs.rollouts]
    found = {tuple(sorted(components)) for group in groups for components in group}
    if len(found) != 1 or found == {()}:
        raise ContractError(
            "gdpo normalises each reward component on its own, but the rollouts of this batch have the components "
            f"{sorted(found)}. The environment's `score` must return a mapping with the same names for every rollout."
        )
    (names,) = found
    return {name: torch.tensor([[c[name] for c in group] for group in groups], dtype=torch.double) for name in names}
