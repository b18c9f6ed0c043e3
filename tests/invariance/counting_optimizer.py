"""An optimizer of one's own: its state has tensors of two dtypes and a number, and its groups count the updates."""

import torch
from torch.optim import Optimizer


class Counting(Optimizer):
    """theta <- theta - lr * sign(m), whose m is kept in bfloat16; each update is a little smaller than the one before."""

    def __init__(self, params, lr=1e-3, beta: float = 0.9):
        super().__init__(params, {"lr": lr, "beta": beta, "updates": 0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["updates"] += 1
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter, group):
        state = self.state[parameter]
        if not state:
            state.update(m=torch.zeros_like(parameter, dtype=torch.bfloat16), last=torch.zeros_like(parameter), number=0)
        state["number"] += 1
        state["m"].lerp_(parameter.grad.bfloat16(), 1 - group["beta"])
        state["last"].copy_(parameter.grad)
        size = group["lr"] / (group["updates"] + state["number"])
        parameter.add_(state["m"].sign() + state["last"].sign() * 0.1, alpha=-size)
