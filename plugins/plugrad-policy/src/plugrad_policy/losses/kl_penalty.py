"""KL divergence to the reference, with the common estimators and their correct gradient (arXiv:2506.09477)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, at_least_float32, finite_exp, k3, loss


def _needs(options: Mapping[str, Any]) -> set[str]:
    return {"ref_logprobs", "old_logprobs"} if options["off_policy"] else {"ref_logprobs"}


@loss(needs=_needs)
def kl_penalty(
    inputs: BatchLossInputs,
    estimator: Literal["k1", "k2", "k3", "abs"] = "k3",
    score_function: Literal["none", "token", "sequence"] = "none",
    off_policy: bool = False,
) -> LossOutputs:
    """w k,  with d = log pi - log pi_ref:  k1 = d,  k2 = d^2 / 2,  k3 = exp(-d) + d - 1,  abs = |d|.

    Add it to a policy gradient with a small weight. The mean of k1 and of k3 is KL(pi || pi_ref). The mean of their
    gradients is not its gradient, because the tokens are also drawn from pi. For k1 that mean is 0; for k3 it is the
    gradient of the other divergence, KL(pi_ref || pi). The missing part is k times the gradient of the sampled token's
    log-prob. `score_function` adds it without changing the value. k2's own gradient already is that of the token's KL.

    Core's `kl_to_reference` is k1 to k3 with neither option. TRL's `use_bias_correction_kl` and DeepSeek-V3.2's
    unbiased estimate (arXiv:2512.02556) are k3 with `score_function = "token"` and `off_policy = true`.

    Args:
        estimator: which estimator to use. "abs", verl's, does not estimate a KL.
        score_function: which sampling terms to add to the gradient. "none": the estimator's own gradient, as in most
            systems. "token": add the sampling of the token itself, which gives the gradient of each token's KL.
            "sequence": also add the sampling of all earlier tokens, which gives the gradient of the sequence's KL.
        off_policy: set w = pi / pi_old for tokens that an earlier policy sampled; else w is 1. Even with "sequence",
            the w of each k is its own token's.

    Reports:
        kl: the mean of w k over counted tokens, in nats.
    """
    assert inputs.ref_logprobs is not None
    # Widened once: the gradients of several uses would add up to infinity in float16.
    policy, counted = at_least_float32(inputs.trainer_logprobs), inputs.loss_mask
    d, sampled = policy - inputs.ref_logprobs, policy - policy.detach()
    if off_policy:
        assert inputs.old_logprobs is not None
        weight = finite_exp(policy - inputs.old_logprobs)
    else:
        weight = sampled.exp()
    if score_function == "none":
        per_token = estimate(d, estimator) * weight.detach()
    elif estimator == "k3":
        # The gradient k + k' is d. As the difference of two exponentials it would have no digit left far from the reference.
        per_token = (estimate(d, estimator).detach() + d.detach() * sampled) * weight.detach()
    else:
        per_token = estimate(d, estimator) * weight
    if score_function == "sequence":
        per_token = per_token + later(per_token, counted) * sampled
    return LossOutputs(per_token, {"kl": Mean.over(per_token, counted)})


def estimate(d: Tensor, estimator: str) -> Tensor:
    """Return the named estimator of `d`."""
    if estimator == "k1":
        return d
    if estimator == "k2":
        return d.square() / 2
    return d.abs() if estimator == "abs" else k3(-d)


def later(values: Tensor, counted: Tensor) -> Tensor:
    """Return for each token the sum over the counted tokens after it, detached."""
    values = torch.where(counted, values.detach(), 0.0)
    return values.sum(dim=1, keepdim=True) - values.cumsum(dim=1)
