"""The backward pass of the fused log-probs for a trainable head. It recomputes every block of logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plugrad.policy.blocks import IMPOSSIBLE, Plan, Workspace, add_product_


class TokensToScore(Protocol):
    """Tokens whose gradient by a block of logits is known."""

    @property
    def hidden(self) -> Float[Tensor, "tokens hidden"]:
        """The last hidden states."""

    def block(self, rows: slice, plan: Plan) -> TokensToScore:
        """Return some of the tokens, with hidden states in `product_dtype`."""

    def by_logits(self, z: Float[Tensor, "rows columns"], start: int, workspace: Workspace) -> Float[Tensor, "rows columns"]:
        """Return the loss's gradient by the logits of a block whose first column is `start`. This overwrites z."""


@dataclass(frozen=True)
class ScoredTokens:
    """Tokens with the results of the forward pass and the gradients of the loss by them."""

    hidden: Float[Tensor, "tokens hidden"]
    targets: Int[Tensor, "tokens"]
    normalizer: Float[Tensor, "tokens"]
    entropy: Float[Tensor, "tokens"] | None
    by_logprob: Float[Tensor, "tokens"]
    by_entropy: Float[Tensor, "tokens"] | None

    def block(self, rows: slice, plan: Plan) -> ScoredTokens:
        """Return some of the tokens, with hidden states in `product_dtype`."""
        return ScoredTokens(
            self.hidden[rows].to(plan.product_dtype),
            self.targets[rows],
            self.normalizer[rows],
            None if self.entropy is None else self.entropy[rows],
            self.by_logprob[rows],
            None if self.by_entropy is None else self.by_entropy[rows],
        )

    def by_logits(self, z: Float[Tensor, "rows columns"], start: int, workspace: Workspace) -> Float[Tensor, "rows columns"]:
        """Return the loss's gradient by the logits of a block whose first column is `start`. This overwrites z."""
        plan = workspace.plan
        if plan.kernels is not None:
            by_row = self.normalizer, self.entropy, self.by_logprob, self.by_entropy
            plan.kernels.differentiate(z, self.targets - start, *by_row, plan.scaling)
            return z
        flatness = plan.flatness(z)
        found = self.by_z(z, start, workspace)
        return found if flatness is None else found.mul_(flatness)

    def by_z(self, z: Float[Tensor, "rows columns"], start: int, workspace: Workspace) -> Float[Tensor, "rows columns"]:
        """Return the loss's gradient by z, times the slope of z. This overwrites z.

        d logprob / dz = onehot - p and d entropy / dz = -p (log p + entropy).
        """
        slope = workspace.plan.slope
        z.sub_(self.normalizer.unsqueeze(1))
        if self.by_entropy is None or self.entropy is None:
            found = z.exp_().mul_((-slope * self.by_logprob).unsqueeze(1))
        else:
            probabilities = torch.exp(z.clamp_(min=IMPOSSIBLE), out=workspace.spare(z))
            by_entropy = slope * self.by_entropy
            rest = slope * self.by_logprob + by_entropy * self.entropy
            found = z.mul_(-by_entropy.unsqueeze(1)).sub_(rest.unsqueeze(1)).mul_(probabilities)
        self.add_at_targets_(found, start, slope)
        return found

    def add_at_targets_(self, by_logits: Float[Tensor, "rows columns"], start: int, slope: float) -> None:
        """Add the gradient by the targets' own logits that lie in a block whose first column is `start`."""
        places, last = self.targets - start, by_logits.shape[1] - 1
        at_target = torch.where((places >= 0) & (places <= last), slope * self.by_logprob, 0.0)
        by_logits.scatter_add_(1, places.clamp(0, last).unsqueeze(1), at_target.unsqueeze(1))


def gradients(
    tokens: TokensToScore,
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, "vocab"] | None,
    wanted: Sequence[bool],
    plan: Plan,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of hidden states, weight and bias in their own dtypes, or None if not wanted.

    The outer loop runs over the vocabulary, so the largest tensor, the weight's gradient, is written only once.
    """
    hidden, workspace = tokens.hidden, Workspace(plan, tokens.hidden, len(weight))
    by_hidden = torch.zeros_like(hidden, dtype=plan.sum_dtype) if wanted[0] else None
    by_weight = torch.empty_like(weight) if wanted[1] else None
    by_bias = torch.empty_like(bias) if wanted[2] and bias is not None else None
    for columns in workspace.columns(len(weight)):
        block_weight, block_bias = plan.head_block(weight, bias, columns)
        weight_sum, bias_sum = _sum_for(by_weight, columns, plan), _sum_for(by_bias, columns, plan)
        for rows in workspace.rows(len(hidden)):
            block = tokens.block(rows, plan)
            z = workspace.z(block.hidden, block_weight, block_bias)
            by_logits = block.by_logits(z, columns.start, workspace)
            if bias_sum is not None:
                bias_sum += by_logits.sum(dim=0, dtype=plan.sum_dtype)
            factor = workspace.as_factor(by_logits)
            if by_hidden is not None:
                add_product_(by_hidden[rows], factor, block_weight)
            if weight_sum is not None:
                add_product_(weight_sum, factor.t(), block.hidden)
        _write(weight_sum, by_weight, columns)
        _write(bias_sum, by_bias, columns)
    return None if by_hidden is None else by_hidden.to(hidden.dtype), by_weight, by_bias


def _sum_for(gradient: Tensor | None, columns: slice, plan: Plan) -> Tensor | None:
    """Return the accumulator of a block's gradient: the gradient itself if it is precise enough."""
    if gradient is None:
        return None
    block = gradient[columns]
    return block.zero_() if block.dtype == plan.sum_dtype else torch.zeros_like(block, dtype=plan.sum_dtype)


def _write(total: Tensor | None, gradient: Tensor | None, columns: slice) -> None:
    if total is not None and gradient is not None and total.dtype != gradient.dtype:
        gradient[columns] = total
