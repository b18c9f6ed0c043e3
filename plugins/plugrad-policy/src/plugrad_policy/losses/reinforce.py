"""REINFORCE: the policy gradient without a ratio (Williams, "Simple statistical gradient-following algorithms", 1992)."""

from __future__ import annotations

from plugrad import BatchLossInputs, LossOutputs, Mean, loss


@loss(policy_gradient=True)
def reinforce(inputs: BatchLossInputs) -> LossOutputs:
    """-A log pi(t).

    Correct only on policy: with one update per batch. `rollout_is` and `cispo` correct for an older sampling policy.

    Reports:
        nll: the mean of -log pi over counted tokens, in nats.
    """
    per_token = -inputs.advantages * inputs.trainer_logprobs
    return LossOutputs(per_token, {"nll": Mean.over(-inputs.trainer_logprobs, inputs.loss_mask)})
