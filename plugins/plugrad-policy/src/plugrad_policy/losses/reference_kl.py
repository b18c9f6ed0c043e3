"""On-policy distillation: reward each token by how much likelier another model finds it (prime-rl's `ref_kl`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.mismatch import mismatch_metrics
from plugrad_policy.losses.probability import probability

NotNegative = Annotated[float, Field(ge=0)]


def _needs(options: Mapping[str, Any]) -> set[str]:
    return {"ref_logprobs" if options["towards"] == "reference" else "teacher_logprobs"}


@loss(needs=_needs)
def reference_kl(
    inputs: BatchLossInputs,
    towards: Literal["reference", "teacher"] = "reference",
    mask_low: NotNegative = 0.2,
    kl_tau: NotNegative = 1e-3,
) -> LossOutputs:
    """-M r sg(log pi_ref - log pi) + kl_tau (log r)^2,  r = pi / mu,  mu the policy that sampled.

    A policy gradient with the advantage log pi_ref - log pi, whose mean is -KL(pi || pi_ref). The run's own advantages
    are not used. M is 0 where pi - mu < -mask_low, else 1, so a token that has already fallen is pushed no further.

    The formula and the defaults are prime-rl's (`ref_kl_loss_fn`, where they are constants). The same advantage is eq.
    2 of GLM-5's cross-stage distillation (arXiv:2602.15763).

    Args:
        towards: the model to learn from: the reference (`[model.reference]`) or the teacher (`[model.teacher]`).
        mask_low: how far the probability of a token may fall.
        kl_tau: the coefficient of the squared log-ratio.

    Reports:
        ref_kl: the mean of log pi_ref - log pi over counted tokens, in nats. Its negative estimates the KL divergence.
        mismatch_kl: the mean of r - log r - 1 over counted tokens, in nats.
        masked_mismatch_kl: the same over tokens with M = 0.
        unmasked_mismatch_kl: the same over tokens with M = 1.
        is_masked: the share of counted tokens with M = 0.
    """
    counted = inputs.loss_mask
    target = inputs.ref_logprobs if towards == "reference" else inputs.teacher_logprobs
    assert target is not None
    ref_kl = target - inputs.trainer_logprobs.detach()
    log_r = inputs.trainer_logprobs - inputs.inference_logprobs
    masked = probability(inputs.trainer_logprobs) - probability(inputs.inference_logprobs) < -mask_low
    per_token = torch.where(masked, 0.0, -finite_exp(log_r) * ref_kl) + kl_tau * log_r.square()
    metrics = {"ref_kl": Mean.over(ref_kl, counted), **mismatch_metrics(log_r, masked, counted)}
    return LossOutputs(per_token, metrics)
