"""The backward pass of the divergences from a teacher. It recomputes every block of both models' logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from plugrad.policy.blocks import IMPOSSIBLE, Plan, Workspace
from plugrad.policy.divergence_sums import NOTHING, bounded_gap, lift_of, scaled
from plugrad.policy.fused_backward import ScoredTokens
from plugrad.policy.teacher_tokens import Comparison, Scratch, TeacherBlocks


@dataclass(frozen=True)
class SoftenedTokens:
    """What the gradient by the logits at one temperature follows from, for each token. All of it is times the slope of z.

    By the policy's logits over the temperature: forward p_S - p_T, reverse p_S (log p_S - log p_T - reverse), and
    jsd (1 - beta) p_S (sum p_S lift - lift), with lift = log m - log p_S.
    """

    student_factor: float
    teacher_factor: float
    student_normalizer: Float[Tensor, "tokens"]
    teacher_normalizer: Float[Tensor, "tokens"]
    constant: Float[Tensor, "tokens"]
    """Of p_S: what is the same for every column."""
    forward: Float[Tensor, "tokens"] | None
    """Of -p_T"""
    reverse: Float[Tensor, "tokens"] | None
    """Of p_S (log p_S - log p_T)"""
    lifts: tuple[tuple[float, Float[Tensor, "tokens"]], ...]
    """By beta: of -p_S lift"""

    @classmethod
    def of(
        cls, comparison: Comparison, temperature: float, normalizers: Tensor, means: Tensor, by_values: Sequence[Tensor]
    ) -> SoftenedTokens:
        """Return it for one temperature, from the forward pass's results and the gradients by all divergences."""
        student_factor, teacher_factor = comparison.factors(temperature)
        slope = comparison.plan.slope * student_factor
        constant, forward, reverse = torch.zeros_like(normalizers[0]), None, None
        lifts = []
        for place, one in comparison.asked_at(temperature):
            weight = slope * by_values[place]
            if one.kind == "forward":
                forward = weight if forward is None else forward + weight
                constant += weight
            elif one.kind == "reverse":
                reverse = weight if reverse is None else reverse + weight
                # What is infinite and does not count has no gradient.
                constant -= torch.where(weight == 0, 0.0, weight * means[place])
            else:
                weight = (1 - one.beta) * weight
                lifts.append((one.beta, weight))
                constant += weight * means[place]
        student, teacher = normalizers
        return cls(student_factor, teacher_factor, student, teacher, constant, forward, reverse, tuple(lifts))

    def block(self, rows: slice) -> SoftenedTokens:
        """Return some of the tokens."""
        return SoftenedTokens(
            self.student_factor,
            self.teacher_factor,
            self.student_normalizer[rows],
            self.teacher_normalizer[rows],
            self.constant[rows],
            None if self.forward is None else self.forward[rows],
            None if self.reverse is None else self.reverse[rows],
            tuple((beta, weight[rows]) for beta, weight in self.lifts),
        )

    def gradient(
        self,
        log_p: Float[Tensor, "rows columns"],
        u: Float[Tensor, "rows columns"],
        scratch: Scratch,
        constant: Float[Tensor, "rows"] | None = None,
        by_log_p: Float[Tensor, "rows"] | None = None,
    ) -> Float[Tensor, "rows columns"]:
        """Return the gradient plus p_S (constant + by_log_p log p_S), in place of log_p. It may overwrite u."""
        log_q = scaled(u, self.teacher_factor, scratch, "teacher").sub_(self.teacher_normalizer.unsqueeze(1))
        column = self.constant if constant is None else self.constant + constant
        weights = self._weights(log_p, log_q, column.unsqueeze(1), by_log_p, scratch)
        found = log_p.exp_().mul_(weights)
        return found if self.forward is None else found.addcmul_(log_q.exp_(), self.forward.unsqueeze(1), value=-1)

    def _weights(
        self, log_p: Tensor, log_q: Tensor, column: Float[Tensor, "rows 1"], by_log_p: Tensor | None, scratch: Scratch
    ) -> Float[Tensor, "rows columns"] | Float[Tensor, "rows 1"]:
        """Return what p_S is multiplied by: finite where p_S is 0, if the divergences are finite."""
        if by_log_p is None and self.reverse is None and not self.lifts:
            return column
        log_p.clamp_(min=IMPOSSIBLE)
        weights = scratch("weights", log_p).copy_(column)
        if by_log_p is not None:
            weights.addcmul_(log_p, by_log_p.unsqueeze(1))
        if self.reverse is not None:
            gap = torch.sub(log_p, log_q.clamp_(min=NOTHING), out=scratch("gap", log_p))
            weights.addcmul_(gap, self.reverse.unsqueeze(1))
        if self.lifts:
            gap = bounded_gap(log_q, log_p, scratch("gap", log_p))
            for beta, weight in self.lifts:
                weights.addcmul_(lift_of(gap, beta, scratch("lift", log_p)), weight.unsqueeze(1), value=-1)
        return weights


@dataclass(frozen=True)
class ComparedTokens:
    """Tokens with the results of the forward pass, and the gradients of the loss by log-probs, entropy and divergences."""

    scored: ScoredTokens
    teacher: TeacherBlocks
    own: SoftenedTokens | None
    """At the temperature of the log-probs and over the same columns: it shares their softmax."""
    others: tuple[SoftenedTokens, ...]
    rows: slice
    """Where the tokens are among the teacher's"""
    scratch: Scratch

    @classmethod
    def of(
        cls, scored: ScoredTokens, teacher: TeacherBlocks, softened: Sequence[SoftenedTokens], vocab: int
    ) -> ComparedTokens:
        """Return all tokens. `vocab` is the policy's."""
        # The temperature of the log-probs is the last one.
        shares = softened[-1].student_factor == 1 and vocab <= teacher.vocab
        others = tuple(softened[:-1] if shares else softened)
        return cls(scored, teacher, softened[-1] if shares else None, others, slice(0, len(scored.hidden)), Scratch())

    @property
    def hidden(self) -> Float[Tensor, "tokens hidden"]:
        """The policy's last hidden states."""
        return self.scored.hidden

    def block(self, rows: slice, plan: Plan) -> ComparedTokens:
        """Return some of the tokens, with hidden states in `product_dtype`."""
        own, others = None if self.own is None else self.own.block(rows), tuple(one.block(rows) for one in self.others)
        return ComparedTokens(self.scored.block(rows, plan), self.teacher, own, others, rows, self.scratch)

    def by_logits(self, z: Float[Tensor, "rows columns"], start: int, workspace: Workspace) -> Float[Tensor, "rows columns"]:
        """Return the loss's gradient by the policy's logits of a block whose first column is `start`. This overwrites z."""
        num_shared = min(z.shape[1], self.teacher.vocab - start)
        if num_shared <= 0:
            return self.scored.by_logits(z, start, workspace)
        flatness = workspace.plan.flatness(z)
        u = self.teacher.u(self.rows, slice(start, start + num_shared))
        others = self._of_others(z[:, :num_shared], u)
        found = self.scored.by_z(z, start, workspace) if self.own is None else self._of_own(self.own, z, u, start, workspace)
        if others is not None:
            found[:, :num_shared].add_(others)
        return found if flatness is None else found.mul_(flatness)

    def _of_own(self, own: SoftenedTokens, z: Tensor, u: Tensor, start: int, workspace: Workspace) -> Tensor:
        """Return the gradient of log-probs, entropy and divergences that share one softmax, by z."""
        scored, slope = self.scored, workspace.plan.slope
        constant, by_log_p = -slope * scored.by_logprob, None
        if scored.by_entropy is not None and scored.entropy is not None:
            by_log_p = -slope * scored.by_entropy
            constant = constant + by_log_p * scored.entropy
        found = own.gradient(z.sub_(scored.normalizer.unsqueeze(1)), u, self.scratch, constant, by_log_p)
        scored.add_at_targets_(found, start, slope)
        return found

    def _of_others(self, z: Tensor, u: Tensor) -> Tensor | None:
        """Return the gradient of the other divergences, by z."""
        total: Tensor | None = None
        for place, one in enumerate(self.others):
            log_p = torch.mul(z, one.student_factor, out=self.scratch(f"student {place}", z))
            found = one.gradient(log_p.sub_(one.student_normalizer.unsqueeze(1)), u, self.scratch)
            total = found if total is None else total.add_(found)
        return total
