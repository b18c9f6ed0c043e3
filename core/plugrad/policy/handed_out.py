"""Parameters that belong to a loss, as a part of the policy: its forward pass hands them out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from plugrad.host.trained_module import key_of


class HandedOut(nn.Module):
    """The parameters of one loss, under its own names for them.

    They leave through a forward pass, so that what wraps the policy (DDP, FSDP2) gathers them before and adds up their
    gradient over ranks after.
    """

    def __init__(self, label: str, made: nn.Module, dtype: torch.dtype) -> None:
        """Copy the parameters of what a loss made; it stays the loss's own, and no hook of a wrapper runs when it is called.

        Args:
            label: of the loss.
            made: what its `trained` returned.
            dtype: of the loss's inputs. The parameters get it, or the most precise of their own.
        """
        super().__init__()
        self.label = label
        parameters = dict(made.named_parameters())
        # One dtype for all, without which they cannot be sharded together.
        self.dtype = reduce(torch.promote_types, (parameter.dtype for parameter in parameters.values()), dtype)
        self.own = nn.Module()
        for name, parameter in parameters.items():
            *path, last = name.split(".")
            copy = nn.Parameter(parameter.detach().to(self.dtype, copy=True), parameter.requires_grad)
            reduce(_child, path, self.own).register_parameter(last, copy)

    def forward(self) -> dict[str, Tensor]:
        """Return the parameters, with gradient."""
        # Copies: what shards a module frees the whole parameters after its forward pass, and must not get views of them.
        return {name: parameter.to(self.dtype, copy=True) for name, parameter in self.own.named_parameters()}


def _child(module: nn.Module, name: str) -> nn.Module:
    if name not in dict(module.named_children()):
        module.add_module(name, nn.Module())
    return module.get_submodule(name)


def by_key(parts: Sequence[HandedOut]) -> nn.ModuleDict:
    """Return the parameters of several losses as one module."""
    return nn.ModuleDict({key_of(part.label): part for part in parts})


def handed_out(trained: nn.ModuleDict) -> dict[str, Tensor]:
    """Return the parameters of all losses, with gradient, by `key_of` of the loss and their own names."""
    return {f"{key}.{name}": value for key, part in trained.items() for name, value in part().items()}
