"""The weights of sharded models, put together on the main rank."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict


class WholeWeights(NamedTuple):
    """The weights of sharded models, put together."""

    model: dict[str, Tensor]
    critic: dict[str, Tensor] | None
    trained: dict[str, dict[str, Tensor]]
    """The parameters of losses, by label."""


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a sharded module's weights on the main rank's CPU. A tied weight comes once, under its first name."""
    whole = get_model_state_dict(module, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    names = {id(weight): name for name, weight in reversed(module.state_dict(keep_vars=True).items())}
    return {name: weight for name, weight in whole.items() if name in names.values() and isinstance(weight, Tensor)}
