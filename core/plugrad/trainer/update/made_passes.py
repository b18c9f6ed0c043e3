"""Make the passes of a micro-batch for the losses of a learner."""

from __future__ import annotations

from plugrad.host.loss import num_passes
from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.more_passes import MorePasses
from plugrad.policy.scored import Wanted
from plugrad.policy.shifts import width_of
from plugrad.trainer.update.learner import Learner


def one_pass(learner: Learner, micro_batch: MicroBatch, *, num: int = 1) -> MorePasses:
    """Return the passes through the policy of which there is one, or `num`."""
    gradient = learner.wanted.entropy == "gradient"
    return MorePasses(
        learner.policy,
        micro_batch.input_ids,
        micro_batch.attention_mask,
        micro_batch.loss_mask,
        further=Wanted(entropy="gradient" if gradient else "none", further=True),
        num=num,
        width=width_of(learner.model) if num > 1 else 0,
        dtype=learner.dtype,
        # Asking looks at every parameter.
        is_sharded=num > 1 and learner.is_sharded,
    )


def all_passes(learner: Learner, micro_batch: MicroBatch) -> MorePasses:
    """Return those that the losses ask for."""
    return one_pass(learner, micro_batch, num=num_passes(learner.losses))
