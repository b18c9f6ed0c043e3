"""Running sums over blocks of the vocabulary, for the fused log-probs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plugrad.policy.blocks import IMPOSSIBLE, Plan, Workspace, add_product_
from plugrad.policy.score_kernels import ScoreKernels


@dataclass(frozen=True)
class Scores:
    """The results for each token after the whole vocabulary."""

    logprobs: Float[Tensor, "tokens"]
    normalizer: Float[Tensor, "tokens"]
    """log sum exp z"""
    entropy: Float[Tensor, "tokens"] | None
    logprob_gradient: Float[Tensor, "tokens hidden"] | None
    """By the hidden state. None if the backward pass computes it."""
    entropy_gradient: Float[Tensor, "tokens hidden"] | None

    @classmethod
    def joined(cls, blocks: list[Scores]) -> Scores:
        """Concatenate the scores of several blocks of tokens."""
        if len(blocks) == 1:
            return blocks[0]
        parts = {name: [getattr(block, name) for block in blocks] for name in vars(blocks[0])}
        joined: dict[str, Any] = {
            name: None if tensors[0] is None else torch.cat(tensors) for name, tensors in parts.items()
        }
        return cls(**joined)


@dataclass
class Sums:
    """Sums over the logits so far, relative to the largest one."""

    peak: Float[Tensor, "rows"]
    total: Float[Tensor, "rows"]
    """sum exp(z - peak)"""
    energy: Float[Tensor, "rows"]
    """sum exp(z - peak) (z - peak)"""
    chosen: Float[Tensor, "rows"]
    """z of the target, once its block has been seen"""
    total_gradient: Float[Tensor, "rows hidden"] | None
    """sum exp(z - peak) dz/dhidden, over the slope of z"""
    energy_gradient: Float[Tensor, "rows hidden"] | None
    """sum exp(z - peak) (z - peak) dz/dhidden, over the slope of z"""

    @classmethod
    def of_nothing(cls, hidden: Float[Tensor, "rows hidden"], plan: Plan) -> Sums:
        """Return the sums before the first block."""
        total, energy, chosen = hidden.new_zeros(3, len(hidden), dtype=plan.sum_dtype)
        peak = torch.full_like(total, torch.finfo(plan.sum_dtype).min)
        matrices = [None, None]
        if plan.gradient_in_forward:
            matrices = [torch.zeros_like(hidden, dtype=plan.sum_dtype) for _ in range(1 + (plan.entropy == "gradient"))]
        return cls(peak, total, energy, chosen, matrices[0], matrices[1] if len(matrices) > 1 else None)

    def add(
        self,
        z: Float[Tensor, "rows columns"],
        weight: Float[Tensor, "columns hidden"],
        places: Int[Tensor, "rows"],
        workspace: Workspace,
    ) -> None:
        """Add a block of z and overwrite it. `places` are the targets, counted from the block's first column."""
        if workspace.plan.kernels is not None:
            self._add_logits(workspace.plan.kernels, z, weight, places, workspace)
            return
        flatness = None if self.total_gradient is None else workspace.plan.flatness(z)
        self.add_relative(self.relative_(z, places), weight, flatness, workspace)

    def _add_logits(
        self, kernels: ScoreKernels, logits: Tensor, weight: Tensor, places: Tensor, workspace: Workspace
    ) -> None:
        plan, before = workspace.plan, self.peak.clone()
        energy_terms = None if self.energy_gradient is None else workspace.spare(logits)
        sums, terms = (self.peak, self.total, self.energy, self.chosen), self.total_gradient is not None
        entropy = plan.entropy != "none"
        kernels.add(logits, places, sums, plan.scaling, entropy=entropy, terms=terms, energy_terms=energy_terms)
        if self.total_gradient is not None:
            self._shrink_gradients((before - self.peak).clamp_(min=IMPOSSIBLE))
            add_product_(self.total_gradient, logits, weight)
            if self.energy_gradient is not None and energy_terms is not None:
                add_product_(self.energy_gradient, energy_terms, weight)

    def relative_(self, z: Float[Tensor, "rows columns"], places: Int[Tensor, "rows"]) -> Float[Tensor, "rows columns"]:
        """Find the targets in a block of z, raise the peak to its largest and make it relative to the peak, in place."""
        self._find_chosen(z, places)
        self._raise_peak(torch.maximum(self.peak, z.amax(dim=1)))
        return z.sub_(self.peak.unsqueeze(1))

    def add_relative(
        self,
        z: Float[Tensor, "rows columns"],
        weight: Float[Tensor, "columns hidden"],
        flatness: Float[Tensor, "rows columns"] | None,
        workspace: Workspace,
    ) -> None:
        """Add a block that is relative to the peak, and overwrite it."""
        if workspace.plan.entropy != "none":
            z.clamp_(min=IMPOSSIBLE)
        terms = torch.exp(z, out=workspace.spare(z))
        self.total += terms.sum(dim=1)
        _add_gradient_(self.total_gradient, terms, flatness, weight, workspace)
        if workspace.plan.entropy != "none":
            terms.mul_(z)
            self.energy += terms.sum(dim=1)
            _add_gradient_(self.energy_gradient, terms, flatness, weight, workspace)

    def _find_chosen(self, z: Tensor, places: Tensor) -> None:
        last = z.shape[1] - 1
        found = z.gather(1, places.clamp(0, last).unsqueeze(1)).squeeze(1)
        self.chosen = torch.where((places >= 0) & (places <= last), found, self.chosen)

    def _raise_peak(self, peak: Tensor) -> None:
        change = (self.peak - peak).clamp_(min=IMPOSSIBLE)
        shrink = change.exp()
        self.energy.addcmul_(change, self.total).mul_(shrink)
        self.total.mul_(shrink)
        self._shrink_gradients(change)
        self.peak = peak

    def _shrink_gradients(self, change: Float[Tensor, "rows"]) -> None:
        if self.total_gradient is not None:
            shrink = change.exp().unsqueeze(1)
            if self.energy_gradient is not None:
                self.energy_gradient.addcmul_(change.unsqueeze(1), self.total_gradient).mul_(shrink)
            self.total_gradient.mul_(shrink)

    def scores(self, target_weight: Float[Tensor, "rows hidden"] | None, plan: Plan) -> Scores:
        """Return the scores. `target_weight`, the head's rows at the targets, is needed only for gradients."""
        mean = self.energy / self.total
        normalizer = self.total.log() + self.peak
        entropy = None if plan.entropy == "none" else self.total.log() - mean
        logprob_gradient = entropy_gradient = None
        if self.total_gradient is not None:
            assert target_weight is not None
            average = self.total_gradient.div_(self.total.unsqueeze(1))
            if self.energy_gradient is not None:
                # d entropy / dz = -p (z - sum p z)
                centred = self.energy_gradient.div_(self.total.unsqueeze(1)).addcmul_(mean.unsqueeze(1), average, value=-1)
                entropy_gradient = centred.mul_(-plan.slope)
            logprob_gradient = self._at_target(target_weight, plan).sub_(average).mul_(plan.slope)
        return Scores(self.chosen - normalizer, normalizer, entropy, logprob_gradient, entropy_gradient)

    def _at_target(self, target_weight: Tensor, plan: Plan) -> Tensor:
        flatness = plan.flatness(self.chosen)
        rows = target_weight.to(plan.sum_dtype)
        return rows.clone() if flatness is None else rows * flatness.unsqueeze(1)


def _add_gradient_(
    total: Tensor | None, terms: Tensor, flatness: Tensor | None, weight: Tensor, workspace: Workspace
) -> None:
    if total is not None:
        add_product_(total, workspace.as_factor(terms if flatness is None else terms * flatness), weight)
