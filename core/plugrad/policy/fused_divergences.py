"""Log-probs, entropy and divergences from a teacher, without `tokens x vocab` logits of either model in either pass.

One loop over blocks of the vocabulary forms both models' logits side by side. A Jensen-Shannon divergence needs both
normalizers before it begins, so it takes a second loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from plugrad.policy.blocks import Workspace
from plugrad.policy.divergence_backward import ComparedTokens, SoftenedTokens
from plugrad.policy.divergence_sums import DivergenceSums, MixtureSums, Softmaxes
from plugrad.policy.fused_backward import ScoredTokens, gradients
from plugrad.policy.fused_logprobs import without_autocast
from plugrad.policy.online_softmax import Scores, Sums
from plugrad.policy.teacher_tokens import Comparison, Scratch, TeacherBlocks


@dataclass(frozen=True)
class Compared:
    """The results for some tokens after the whole vocabulary."""

    scores: Scores
    values: Float[Tensor, "divergences tokens"]
    means: Float[Tensor, "divergences tokens"]
    """What the gradient needs of each: the divergence itself, or sum p_S lift for jsd"""
    normalizers: Float[Tensor, "temperatures 2 tokens"]
    """Of the policy and of the teacher"""

    @classmethod
    def joined(cls, blocks: list[Compared]) -> Compared:
        """Concatenate the results of several blocks of tokens."""
        if len(blocks) == 1:
            return blocks[0]
        names = "values", "means", "normalizers"
        return cls(
            Scores.joined([block.scores for block in blocks]),
            *(torch.cat([getattr(block, name) for block in blocks], dim=-1) for name in names),
        )


class ComparedTokenScores(torch.autograd.Function):
    """Log-softmax of z at the targets, the entropy of the softmax, and each divergence that `comparison` asks for."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "tokens hidden"],
        weight: Float[Tensor, "vocab hidden"],
        bias: Float[Tensor, "vocab"] | None,
        targets: Int[Tensor, "tokens"],
        teacher_hidden: Float[Tensor, "tokens teacher_hidden"],
        teacher_weight: Float[Tensor, "teacher_vocab teacher_hidden"],
        teacher_bias: Float[Tensor, "teacher_vocab"] | None,
        comparison: Comparison,
    ) -> tuple[Tensor | None, ...]:
        """Compute a matrix product for each model, or two for a Jensen-Shannon divergence."""
        with without_autocast(hidden):
            teacher = TeacherBlocks(teacher_hidden, teacher_weight, teacher_bias, comparison)
            workspace, scratch = Workspace(comparison.plan, hidden, len(weight)), Scratch()
            impossible = bias is not None or teacher_bias is not None
            blocks = [
                RowsBeside(hidden[rows], weight, bias, targets[rows], teacher, rows, workspace, scratch, impossible)
                for rows in workspace.rows(len(hidden))
            ]
            found = Compared.joined([block.compared(comparison) for block in blocks])
        scores = found.scores
        ctx.comparison = comparison
        ctx.save_for_backward(
            *(hidden, weight, bias, targets, teacher_hidden, teacher_weight, teacher_bias),
            *(scores.normalizer, scores.entropy, found.means, found.normalizers),
        )
        if comparison.plan.entropy == "value":
            ctx.mark_non_differentiable(scores.entropy)
        # Rounding alone makes one negative. No gradient passes here.
        return scores.logprobs, scores.entropy, *(value.clamp(min=0) for value in found.values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_logprob: Tensor, by_entropy: Tensor | None, *by_values: Tensor) -> tuple[Tensor | None, ...]:
        """Compute one matrix product for each model's logits and one for each requested gradient."""
        comparison: Comparison = ctx.comparison
        plan = comparison.plan
        hidden, weight, bias, targets, teacher_hidden, teacher_weight, teacher_bias, *results = ctx.saved_tensors
        normalizer, entropy, means, normalizers = results
        if plan.entropy != "gradient":
            by_entropy = None
        with without_autocast(by_logprob):
            scored = ScoredTokens(hidden, targets, normalizer, entropy, by_logprob, by_entropy)
            softened = [
                SoftenedTokens.of(comparison, temperature, pair, means, by_values)
                for temperature, pair in zip(comparison.temperatures, normalizers, strict=True)
            ]
            teacher = TeacherBlocks(teacher_hidden, teacher_weight, teacher_bias, comparison)
            tokens = ComparedTokens.of(scored, teacher, softened, len(weight))
            return *gradients(tokens, weight, bias, ctx.needs_input_grad[:3], plan), *[None] * 5


@dataclass(frozen=True)
class RowsBeside:
    """Some of the policy's tokens with the teacher's beside them."""

    hidden: Float[Tensor, "rows hidden"]
    weight: Float[Tensor, "vocab hidden"]
    bias: Float[Tensor, "vocab"] | None
    targets: Int[Tensor, "rows"]
    teacher: TeacherBlocks
    rows: slice
    workspace: Workspace
    scratch: Scratch
    impossible: bool
    """Whether a logit may be -inf, as a bias of -inf makes it"""

    @property
    def num_shared(self) -> int:
        """The columns that both heads have. They come first."""
        return min(len(self.weight), self.teacher.vocab)

    def compared(self, comparison: Comparison) -> Compared:
        """Return the results of these tokens."""
        plan = self.workspace.plan
        sums = Sums.of_nothing(self.hidden, plan)
        divergences = DivergenceSums(comparison, sums, self.scratch, impossible=self.impossible)
        for columns in self.workspace.columns(self.num_shared):
            z, weight = self._z(columns)
            relative = sums.relative_(z, self.targets - columns.start)
            divergences.add(relative, self.teacher.u(self.rows, columns))
            sums.add_relative(relative, weight, None, self.workspace)
        softmaxes = divergences.softmaxes()
        values, means = self._results(comparison, divergences, softmaxes)
        self._add_rest(sums)
        normalizers = torch.stack([torch.stack(one.normalizers) for one in softmaxes])
        return Compared(sums.scores(None, plan), values, means, normalizers)

    def _z(self, columns: slice) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "columns hidden"]]:
        plan = self.workspace.plan
        weight, bias = plan.head_block(self.weight, self.bias, columns)
        return self.workspace.z(self.hidden.to(plan.product_dtype), weight, bias), weight

    def _add_rest(self, sums: Sums) -> None:
        """Add the columns that the teacher lacks to the sums of the log-probs."""
        start, num_rest = self.num_shared, len(self.weight) - self.num_shared
        for columns in self.workspace.columns(num_rest) if num_rest else ():
            place = slice(start + columns.start, start + columns.stop)
            z, weight = self._z(place)
            sums.add(z, weight, self.targets - place.start, self.workspace)

    def _results(
        self, comparison: Comparison, divergences: DivergenceSums, softmaxes: list[Softmaxes]
    ) -> tuple[Float[Tensor, "divergences rows"], Float[Tensor, "divergences rows"]]:
        """Return each divergence and what its gradient needs."""
        asked = comparison.asked
        values = {p: divergences.value(one, softmaxes) for p, one in enumerate(asked) if one.kind != "jsd"}
        means = dict(values)
        mixtures = [
            MixtureSums(pair, comparison.asked_at(temperature))
            for temperature, pair in zip(comparison.temperatures, softmaxes, strict=True)
        ]
        if len(values) < len(asked):
            for columns in self.workspace.columns(self.num_shared):
                z, u = self._z(columns)[0], self.teacher.u(self.rows, columns)
                for mixture in mixtures:
                    mixture.add(z, u, self.scratch)
        for mixture in mixtures:
            values |= mixture.values()
            means |= mixture.lifts
        places = range(len(asked))
        return torch.stack([values[p] for p in places]), torch.stack([means[p] for p in places])
