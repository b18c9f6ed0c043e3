"""`[model] compile`: the policy's layers through `torch.compile`, for the passes that score tokens and train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from plugrad.errors import ModelError
from plugrad.policy.lm_head import LinearHead, backbone

BACKEND = "inductor"
"""PyTorch's own, which writes Triton kernels on a GPU and C++ on a CPU."""


def compiled_layers(model: nn.Module, head: LinearHead | None) -> Callable[..., Any]:
    """Return a function that runs the model without its head, compiled at its first call.

    It is compiled for any number of rows and tokens. The model is not changed: its weights keep their names, and another
    caller runs it uncompiled.

    Raises:
        ModelError: the model runs as a whole.
    """
    if head is None:
        raise ModelError(
            f"model.compile is true, but {type(model).__name__} turns its last hidden states into logits in its own way, so "
            "plugrad runs it as a whole and compiles none of it. Set it to false."
        )
    layers = backbone(model)

    def run(**inputs: Any) -> Any:
        return layers(**inputs)

    compiled: Callable[..., Any] = torch.compile(run, dynamic=True, backend=BACKEND)
    return compiled
