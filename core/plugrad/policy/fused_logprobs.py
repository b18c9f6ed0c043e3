"""Log-probs and entropy from hidden states and the head's weight, without `tokens x vocab` logits in either pass.

The forward pass is an online softmax over blocks of logits (Milakov and Gimelshein, arXiv:1805.02867). The backward pass
recomputes each block. If the head is frozen, the forward pass also accumulates the hidden states' gradient, as
FlashAttention accumulates its output (arXiv:2205.14135), and no block is computed twice.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from plugrad.policy.blocks import Plan, Workspace
from plugrad.policy.fused_backward import ScoredTokens, gradients
from plugrad.policy.online_softmax import Scores, Sums


class TokenScores(torch.autograd.Function):
    """Log-softmax of z at the targets, and the entropy of the softmax."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "tokens hidden"],
        weight: Float[Tensor, "vocab hidden"],
        bias: Float[Tensor, "vocab"] | None,
        targets: Int[Tensor, "tokens"],
        plan: Plan,
    ) -> tuple[Float[Tensor, "tokens"], Float[Tensor, "tokens"] | None]:
        """Compute one matrix product. A frozen head adds one for the log-probs' gradient and one for the entropy's."""
        with without_autocast(hidden):
            scores = _scores(hidden, weight, bias, targets, plan)
        ctx.plan, ctx.dtype = plan, hidden.dtype
        if plan.gradient_in_forward:
            ctx.save_for_backward(scores.logprob_gradient, scores.entropy_gradient)
        else:
            ctx.save_for_backward(hidden, weight, bias, targets, scores.normalizer, scores.entropy)
        if plan.entropy == "value":
            ctx.mark_non_differentiable(scores.entropy)
        return scores.logprobs, scores.entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_logprob: Tensor, by_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        """Compute one matrix product for the logits and one for each requested gradient."""
        plan: Plan = ctx.plan
        if plan.entropy != "gradient":
            by_entropy = None
        with without_autocast(by_logprob):
            if plan.gradient_in_forward:
                logprob_gradient, entropy_gradient = ctx.saved_tensors
                by_hidden = _weighted(logprob_gradient, by_logprob, entropy_gradient, by_entropy)
                return by_hidden.to(ctx.dtype), None, None, None, None
            hidden, weight, bias, targets, normalizer, entropy = ctx.saved_tensors
            tokens = ScoredTokens(hidden, targets, normalizer, entropy, by_logprob, by_entropy)
            return *gradients(tokens, weight, bias, ctx.needs_input_grad[:3], plan), None, None


def _scores(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, plan: Plan) -> Scores:
    workspace = Workspace(plan, hidden, len(weight))
    blocks = workspace.rows(len(hidden))
    return Scores.joined([_of_rows(hidden[rows], weight, bias, targets[rows], workspace) for rows in blocks])


def _of_rows(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, workspace: Workspace) -> Scores:
    plan = workspace.plan
    sums, hidden = Sums.of_nothing(hidden, plan), hidden.to(plan.product_dtype)
    for columns in workspace.columns(len(weight)):
        block_weight, block_bias = plan.head_block(weight, bias, columns)
        sums.add(workspace.z(hidden, block_weight, block_bias), block_weight, targets - columns.start, workspace)
    return sums.scores(weight[targets].to(plan.product_dtype) if plan.gradient_in_forward else None, plan)


def _weighted(
    logprob_gradient: Tensor, by_logprob: Tensor, entropy_gradient: Tensor | None, by_entropy: Tensor | None
) -> Float[Tensor, "tokens hidden"]:
    total = logprob_gradient * by_logprob.unsqueeze(1)
    if entropy_gradient is not None and by_entropy is not None:
        total.addcmul_(entropy_gradient, by_entropy.unsqueeze(1))
    return total


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Return a context without autocast: the plan holds the dtypes, and autocast may differ between the two passes."""
    return torch.autocast(tensor.device.type, enabled=False)
