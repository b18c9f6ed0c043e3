"""The state of the process that every component computes with, and that a plugin may not leave changed."""

from __future__ import annotations

import torch

from plugrad.errors import ContractError


class StateKept:
    """Put PyTorch's default dtype and gradient mode back after the body, and name the plugin that changed them.

    Raises:
        ContractError: the body changed one, and raised nothing.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def __enter__(self) -> None:
        self._dtype, self._grad = torch.get_default_dtype(), torch.is_grad_enabled()

    def __exit__(self, kind: object, *_: object) -> None:
        dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
        if dtype is not self._dtype:
            torch.set_default_dtype(self._dtype)
        if grad is not self._grad:
            torch.set_grad_enabled(self._grad)
        if kind is None and dtype is not self._dtype:
            raise ContractError(
                f"{self._owner} set torch's default dtype to {dtype}, with which the model and all other components would "
                f"compute from then on (it was {self._dtype}). Pass dtype=... to the tensors that you create."
            )
        if kind is None and grad is not self._grad:
            raise ContractError(
                f"{self._owner} switched torch's gradients {'on' if grad else 'off'} and left them so, for all other "
                "components too. Use `with torch.no_grad():` around the lines concerned."
            )
