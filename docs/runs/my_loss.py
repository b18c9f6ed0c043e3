"""The loss of the README, as one writes it first: a plain function of one sequence."""

from plugrad import LossInputs, LossOutputs, finite_exp


def my_loss(inputs: LossInputs, clip_eps: float = 0.2) -> LossOutputs:
    """PPO's clipped surrogate, against the engine that sampled."""
    ratio = finite_exp(inputs.trainer_logprobs - inputs.inference_logprobs)
    clipped = ratio.clamp(1 - clip_eps, 1 + clip_eps)
    per_token = -(ratio * inputs.advantages).minimum(clipped * inputs.advantages)
    return LossOutputs(per_token, {"clip_fraction": (ratio != clipped)[inputs.loss_mask].float().mean()})
