"""PPO's trust region without a hard edge: the further a token has moved the way it is pushed, the less it is pushed."""

from __future__ import annotations

import math

from torch.nn.functional import logsigmoid

from plugrad import LossInputs, LossOutputs, Mean, OptionError, loss


@loss(needs={"old_logprobs"}, policy_gradient=True)
def soft_clip(inputs: LossInputs, width: float = 0.2) -> LossOutputs:
    """-2 width |A| log(2 sigmoid(x)),  x = sign(A) (log pi - log pi_old) / width.

    Its gradient is that of -A log pi, times the gate 2 sigmoid(-x). The gate is 1 where the policy has not moved. It
    falls towards 0 for a token that has moved the way its advantage pushes it (0.54 at one `width`, 0.04 at four). It
    rises towards 2 for a token that has moved against its advantage. `width` is in nats and above 0.

    This package's own. The one-sidedness is PPO's (arXiv:1707.06347, eq. 7). A smooth gate is also SAPO's idea
    (arXiv:2511.20347), whose gate closes on both sides.
    """
    if not 0 < width < math.inf:
        raise OptionError(f"[loss] 'soft_clip': the option 'width' is {width}. It must be a finite number above 0.")
    assert inputs.old_logprobs is not None
    moved = inputs.advantages.sign() * (inputs.trainer_logprobs - inputs.old_logprobs) / width
    per_token = -2 * width * inputs.advantages.abs() * (logsigmoid(moved) + math.log(2))
    gate = 2 * (-moved).sigmoid()
    return LossOutputs(per_token, {"gate": Mean.over(gate, inputs.loss_mask)})
