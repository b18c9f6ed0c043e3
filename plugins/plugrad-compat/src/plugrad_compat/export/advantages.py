"""Any plugrad advantage as an advantage estimator of verl or SkyRL, which call it the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from plugrad import AdvantageInputs, AdvantageOutputs, DataError
from plugrad_compat.export.named import named_advantage


@dataclass(frozen=True)
class AdvantageEstimator:
    """`(token_level_rewards, response_mask, index, **unused) -> (advantages, returns)`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self, token_level_rewards: Tensor, response_mask: Tensor, index: Sequence[Any], config: Any = None, **unused: Any
    ) -> tuple[Tensor, Tensor]:
        """Return the advantages `[batch, response_length]`, twice: without a critic, the returns are the same."""
        order = _by_group(index)
        # In float32 the sums of equal rewards differ.
        rewards = token_level_rewards.double().sum(dim=1)[order]
        lengths = response_mask.bool().sum(dim=1)[order]
        outputs = named_advantage(self.name, self.options)(AdvantageInputs(rewards=rewards, completion_lengths=lengths))
        rows = torch.zeros_like(token_level_rewards)
        rows[order.flatten()] = _per_token(outputs, lengths, rows.shape[1]).to(rows)
        rows = rows * response_mask
        return rows, rows


def verl_advantage(name: str, **options: Any) -> AdvantageEstimator:
    """Return a plugrad advantage to register: `register_adv_est("plugrad_rloo")(verl_advantage("rloo"))`.

    The advantage must not read the rollouts themselves, which verl does not provide.

    Args:
        name: the plugrad advantage.
        options: the options of the advantage.
    """
    return AdvantageEstimator(name, options)


def skyrl_advantage(name: str, **options: Any) -> AdvantageEstimator:
    """Return a plugrad advantage to register: `register_advantage_estimator("plugrad_rloo")(skyrl_advantage("rloo"))`.

    The advantage must not read the rollouts themselves, which SkyRL does not provide.

    Args:
        name: the plugrad advantage.
        options: the options of the advantage.
    """
    return AdvantageEstimator(name, options)


def _by_group(index: Sequence[Any]) -> Tensor:
    """Return the rows of each group, `[groups, rollouts]`."""
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(index):
        rows.setdefault(str(group), []).append(row)
    sizes = {len(group) for group in rows.values()}
    if len(sizes) != 1:
        raise DataError(
            f"the groups of the batch have {sorted(sizes)} rollouts. plugrad's advantages need the same number in each."
        )
    return torch.tensor(list(rows.values()))


def _per_token(outputs: AdvantageOutputs, lengths: Tensor, width: int) -> Tensor:
    """Return `[rows, width]`: a row's single advantage at every position, or its own advantage at each token."""
    if isinstance(outputs.advantages, Tensor):
        return outputs.advantages.reshape(-1, 1).expand(-1, width)
    padded = [torch.nn.functional.pad(tokens, (0, width - len(tokens))) for group in outputs.advantages for tokens in group]
    return torch.stack(padded)
