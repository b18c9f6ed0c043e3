"""Log-probs and entropy by themselves, for the GPU benchmark: fused, in PyTorch's blocks, plain, and the products alone."""

import os
from collections.abc import Callable

import torch

from plugrad.policy.logprobs import scores_from_logits, token_scores
from plugrad.policy.score_kernels import SWITCH, score_kernels

SIZE, TOY = (8192, 1024, 151_936), (16, 8, 300)


def head_call(way: str, device: torch.device, *, toy: bool, frozen: bool) -> Callable[[], object]:
    """Return forward and backward pass of log-probs and entropy, in bfloat16."""
    tokens, width, vocab = TOY if toy else SIZE
    torch.manual_seed(0)
    hidden = torch.randn(tokens, width, device=device, dtype=torch.bfloat16).requires_grad_()
    weight = torch.randn(vocab, width, device=device).mul_(0.03).bfloat16().requires_grad_(not frozen)
    targets = torch.randint(vocab, (tokens,), device=device)
    weights = torch.randn(tokens, device=device)
    trained = [tensor for tensor in (hidden, weight) if tensor.requires_grad]
    if way == "products":
        return _products(hidden.detach(), weight.detach(), frozen=frozen)
    if way == "kernels" and score_kernels(device, torch.bfloat16) is None:
        raise RuntimeError("Triton's kernels do not run here")

    def call() -> object:
        if way == "plain":
            scores = scores_from_logits(hidden @ weight.T, targets, temperature=1.0, entropy="value")
        else:
            scores = token_scores(hidden, weight, None, targets, temperature=1.0, entropy="value")
        return torch.autograd.grad(scores[0] @ weights, trained)

    return _in_pytorch(call) if way == "blocks" else call


def _in_pytorch(call: Callable[[], object]) -> Callable[[], object]:
    def without_kernels() -> object:
        before = os.environ.get(SWITCH)
        os.environ[SWITCH] = "0"
        try:
            return call()
        finally:
            os.environ.pop(SWITCH)
            if before is not None:
                os.environ[SWITCH] = before

    return without_kernels


def _products(hidden: torch.Tensor, weight: torch.Tensor, *, frozen: bool) -> Callable[[], object]:
    """Return the floor: logits, once more in the backward pass, and two gradients; or logits and one gradient."""
    logits = torch.empty(len(hidden), len(weight), device=hidden.device, dtype=hidden.dtype)
    by_hidden, by_weight = torch.empty_like(hidden), torch.empty_like(weight)

    def call() -> None:
        torch.mm(hidden, weight.T, out=logits)
        if not frozen:
            torch.mm(hidden, weight.T, out=logits)
            torch.mm(logits.T, hidden, out=by_weight)
        torch.mm(logits, weight, out=by_hidden)

    return call
