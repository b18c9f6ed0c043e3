"""A loss and an advantage as prime-rl's documentation has them: their imports are changed, and nothing else."""

import torch

from plugrad_compat.prime_rl import AdvantageInputs, AdvantageOutputs, LossInputs, LossOutputs


def ppo_clip_loss(inputs: LossInputs, clip_eps: float = 0.2) -> LossOutputs:
    ratio = torch.exp(inputs.trainer_logprobs - inputs.inference_logprobs)
    clipped = torch.clamp(ratio, 1 - clip_eps, 1 + clip_eps)
    surr1 = ratio * inputs.advantages
    surr2 = clipped * inputs.advantages
    loss = -torch.min(surr1, surr2)[inputs.loss_mask].sum()
    return LossOutputs(
        loss=loss,
        metrics={
            "clip_frac": (ratio != clipped)[inputs.loss_mask].float().mean(),
        },
    )


def distilled_loss(inputs: LossInputs, tau: float = 1.0) -> LossOutputs:
    log_ratio = inputs.trainer_logprobs - inputs.ref_logprobs
    loss = (inputs.trainer_logprobs * log_ratio.detach() * inputs.loss_weights)[inputs.loss_mask].sum()
    return LossOutputs(loss=tau * loss, metrics={"ref_kl": log_ratio.detach()[inputs.loss_mask].mean()})


def by_trajectory(inputs: AdvantageInputs, bonus: float = 0.0) -> AdvantageOutputs:
    rewards = torch.tensor(
        [
            [r["reward"] + bonus * len(r["trajectory"]) + r["metrics"].get("tidy", 0.0) for r in group]
            for group in inputs.rollouts
        ],
        dtype=torch.float64,
    )
    return AdvantageOutputs(advantages=rewards - rewards.mean(dim=1, keepdim=True))
