"""The objective of an update: what the losses get of a micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.needs import TeacherDivergence
from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.more_passes import MorePasses
from plugrad.policy.scored import Scored, Wanted
from plugrad.trainer.update.fixed_scores import teacher_logits, teacher_states
from plugrad.trainer.update.learner import Learner
from plugrad.trainer.update.run_progress import Progress


class Forwarded(NamedTuple):
    """What a pass gives the losses."""

    inputs: BatchLossInputs
    """The same for all."""
    divergences: Mapping[TeacherDivergence, Tensor]
    """`teacher_divergence` of each loss, by what it asks for."""


def forward(learner: Learner, micro_batch: MicroBatch, progress: Progress, wanted: Wanted, passes: MorePasses) -> Forwarded:
    """Run the policy on a micro-batch: one forward pass for all that any loss or metric needs, and others on request."""
    teachers = teacher_states(learner, micro_batch) if wanted.divergences else []
    scored: Scored = passes.first(wanted, teachers)
    given = loss_inputs(scored, micro_batch, progress)
    if wanted.teacher_logits:
        given = replace(given, teacher_logits=teacher_logits(learner, micro_batch))
    if passes.num > 1:
        given = replace(given, again=passes.again, sensitivity=passes.sensitivity)
    return Forwarded(given, dict(zip(wanted.divergences, scored.divergences, strict=True)))


def loss_inputs(scored: Scored, micro_batch: MicroBatch, progress: Progress) -> BatchLossInputs:
    """Return what losses get of a pass; what the micro-batch does not know of the policy before is that of the pass."""
    own = scored.logprobs.detach()
    return BatchLossInputs(
        trainer_logprobs=scored.logprobs,
        inference_logprobs=own if micro_batch.inference_logprobs is None else micro_batch.inference_logprobs,
        teacher_logprobs=micro_batch.teacher_logprobs,
        advantages=micro_batch.advantages,
        loss_mask=micro_batch.loss_mask,
        # With one update per batch the policy has not moved since.
        old_logprobs=own if micro_batch.old_logprobs is None else micro_batch.old_logprobs,
        ref_logprobs=micro_batch.ref_logprobs,
        entropy=scored.entropy,
        logits=scored.logits,
        hidden_states=scored.hidden_states,
        embedding=scored.embedding,
        values=scored.values,
        old_values=micro_batch.old_values,
        returns=micro_batch.returns,
        input_ids=micro_batch.input_ids,
        reward=micro_batch.reward,
        group_ids=micro_batch.group_ids,
        member=micro_batch.member,
        metadata=micro_batch.metadata,
        parameters=scored.parameters,
        step=progress.step,
        max_steps=progress.max_steps,
    )
