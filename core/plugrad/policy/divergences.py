"""Log-probs and entropy of sampled tokens with the policy's divergence from its teacher over the whole vocabulary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plugrad.contracts.needs import TeacherDivergence
from plugrad.policy.blocks import EntropyMode, Plan, product_dtype_of
from plugrad.policy.divergence_sums import GAP_BOUNDS
from plugrad.policy.fused_divergences import ComparedTokenScores
from plugrad.policy.logprobs import logits_of, scores_from_logits, token_scores
from plugrad.policy.teacher_tokens import Comparison, LogitSource

__all__ = ["ComparedScores", "LogitSource", "compared_scores", "compared_scores_from_logits", "teacher_logits_of"]


class ComparedScores(NamedTuple):
    """What `compared_scores` gives, in nats."""

    logprobs: Float[Tensor, "tokens"]
    entropy: Float[Tensor, "tokens"] | None
    divergences: tuple[Float[Tensor, "tokens"], ...]
    """In the order in which they were asked for."""


def compared_scores(
    hidden: Float[Tensor, "tokens hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, "vocab"] | None,
    targets: Int[Tensor, "tokens"],
    teacher: LogitSource,
    asked: Sequence[TeacherDivergence],
    *,
    temperature: float,
    entropy: EntropyMode,
    scaling: float = 1.0,
    softcap: float | None = None,
) -> ComparedScores:
    """Return what `token_scores` returns, and at each token each divergence that is asked for.

    Each divergence divides the logits, before the `temperature` of `token_scores`, by its own. It runs over the columns that
    both heads have, the first ones; the log-probs run over all of the policy's. Both models' logits are computed in blocks,
    side by side: full-vocabulary logits are never materialised, in either pass. Gradients flow to `hidden`, `weight` and
    `bias`. Sums and results are in float32 at least. No divergence is negative. A forward or reverse one is infinite where
    the distribution that weighs the tokens can choose one that the other cannot.
    """
    if not asked:
        scores = token_scores(
            hidden, weight, bias, targets, temperature=temperature, entropy=entropy, scaling=scaling, softcap=softcap
        )
        return ComparedScores(*scores, ())
    assert len(teacher.hidden) == len(hidden)
    plan = Plan(
        slope=scaling / temperature,
        bound=None if softcap is None else softcap / temperature,
        entropy=entropy,
        product_dtype=product_dtype_of(hidden),
        gradient_in_forward=False,
    )
    comparison = Comparison.of(plan, temperature, tuple(asked), teacher)
    constant = (None if tensor is None else tensor.detach() for tensor in (teacher.hidden, teacher.weight, teacher.bias))
    logprobs, entropies, *values = ComparedTokenScores.apply(hidden, weight, bias, targets, *constant, comparison)  # type: ignore[no-untyped-call]
    return ComparedScores(logprobs, entropies, tuple(values))


def teacher_logits_of(teacher: LogitSource) -> Float[Tensor, "tokens teacher_vocab"]:
    """Return the teacher's full logits in float32 at least, for `compared_scores_from_logits`."""
    with torch.no_grad():
        return logits_of(
            teacher.hidden, teacher.weight, teacher.bias, temperature=1.0, scaling=teacher.scaling, softcap=teacher.softcap
        )


def compared_scores_from_logits(
    logits: Float[Tensor, "tokens vocab"],
    targets: Int[Tensor, "tokens"],
    teacher_logits: Float[Tensor, "tokens teacher_vocab"],
    asked: Sequence[TeacherDivergence],
    *,
    temperature: float,
    entropy: EntropyMode,
) -> ComparedScores:
    """Return the same as `compared_scores` from full logits, for models whose head it does not support.

    Both logits are as the models give them, over no temperature.
    """
    scores = scores_from_logits(logits, targets, temperature=temperature, entropy=entropy)
    return ComparedScores(*scores, tuple(_divergence(logits, teacher_logits, one) for one in asked))


def _divergence(logits: Tensor, teacher_logits: Tensor, asked: TeacherDivergence) -> Float[Tensor, "tokens"]:
    num_shared = min(logits.shape[-1], teacher_logits.shape[-1])
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_p, log_q = (
        (whole[..., :num_shared].to(dtype) / asked.temperature).log_softmax(dim=-1)
        for whole in (logits, teacher_logits.detach())
    )
    value = _DENSE[asked.kind](log_p, log_q, asked.beta)
    # Rounding alone makes it negative. The gradient stays.
    return torch.where(value < 0, value - value.detach(), value)


def _forward(log_p: Tensor, log_q: Tensor, _: float) -> Float[Tensor, "tokens"]:
    return _mean_gap(log_q, log_p)


def _reverse(log_p: Tensor, log_q: Tensor, _: float) -> Float[Tensor, "tokens"]:
    return _mean_gap(log_p, log_q)


def _mean_gap(weighing: Tensor, other: Tensor) -> Float[Tensor, "tokens"]:
    weights = weighing.exp()
    # A token that cannot be chosen adds 0, not 0 * inf, also to the gradient.
    return (weights * (weighing - other).masked_fill(weights == 0, 0.0)).sum(dim=-1)


def _mixture(log_p: Tensor, log_q: Tensor, beta: float) -> Float[Tensor, "tokens"]:
    gap = (log_q - log_p).nan_to_num(0.0, math.inf, -math.inf).clamp(*GAP_BOUNDS)
    lift = torch.log1p(beta * torch.expm1(gap))
    return (beta * log_q.exp() * (gap - lift) - (1 - beta) * log_p.exp() * lift).sum(dim=-1)


_DENSE: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"forward": _forward, "reverse": _reverse, "jsd": _mixture}
