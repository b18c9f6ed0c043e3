"""AsymRE: a baseline below the mean reward, so that good samples count for more than bad ones (arXiv:2506.20520)."""

from __future__ import annotations

from plugrad import BatchLossInputs, LossOutputs, Mean, loss


@loss
def asymre(inputs: BatchLossInputs, baseline_shift: float = -0.1) -> LossOutputs:
    """-(A - baseline_shift) log pi(t).

    With the advantage `group_mean`, A is the reward minus its group's mean V, and the baseline is V + baseline_shift. On
    policy, a baseline changes only the variance. Off policy it changes what is learned, and the paper proves that the
    policy improves if the baseline is not above the expected reward. There is no ratio and no clip.

    A token whose advantage is 0 is learned from, too: the loss raises its log-prob.

    Args:
        baseline_shift: the baseline minus the mean reward. The default is Trinity-RFT's. 0 is `reinforce`.

    Reports:
        nll: the mean of -log pi over counted tokens, in nats.
    """
    nll = -inputs.trainer_logprobs
    return LossOutputs((inputs.advantages - baseline_shift) * nll, {"nll": Mean.over(nll, inputs.loss_mask)})
