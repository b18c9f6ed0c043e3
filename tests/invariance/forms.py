"""One loss in both of its forms, and one that divides by what the cut decides."""

from plugrad import BatchLossInputs, LossInputs, LossOutputs, Mean, loss


@loss(needs={"old_logprobs", "entropy"})
def by_sequence(inputs: LossInputs) -> LossOutputs:
    ratio = (inputs.trainer_logprobs - inputs.old_logprobs).exp()
    summed = -(ratio * inputs.advantages + 0.1 * inputs.entropy)[inputs.loss_mask].sum()
    return LossOutputs(summed, {"ratio": Mean.over(ratio, inputs.loss_mask), "length": inputs.loss_mask.sum().double()})


@loss(needs={"old_logprobs", "entropy"})
def by_batch(inputs: BatchLossInputs) -> LossOutputs:
    ratio = (inputs.trainer_logprobs - inputs.old_logprobs).exp()
    per_token = -(ratio * inputs.advantages + 0.1 * inputs.entropy)
    return LossOutputs(per_token, {"ratio": Mean.over(ratio, inputs.loss_mask), "length": inputs.loss_mask.sum(1).double()})


def mean_of_its_own(inputs: BatchLossInputs) -> LossOutputs:
    per_token = -inputs.trainer_logprobs * inputs.advantages
    return LossOutputs(per_token * inputs.loss_mask / inputs.loss_mask.sum())
