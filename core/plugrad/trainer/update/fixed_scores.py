"""What does not change while a micro-batch is trained on: log-probs of the old policy, and what frozen models make of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from plugrad.policy.lm_head import vocab_size
from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.teachers import TeacherStates
from plugrad.trainer.update.learner import Learner


def with_fixed_logprobs(learner: Learner, micro_batch: MicroBatch) -> MicroBatch:
    """Move a micro-batch to the device, and add the old, reference and teacher log-probs that are needed and not known."""
    on_device = micro_batch.to(learner.accelerator.device)
    fields = [*learner.frozen]
    if learner.keeps_old:
        fields.append("old_logprobs")
    if learner.keeps_teacher:
        fields.append("teacher_logprobs")
    scored: dict[str, Any] = {
        field: fixed_logprobs(learner, on_device, field) for field in fields if field not in learner.scores_first
    }
    return replace(on_device, **scored)


@torch.no_grad()
def fixed_logprobs(learner: Learner, on_device: MicroBatch, field: str) -> Tensor:
    """Return one field of the losses' inputs `[batch, seq]`; every rank calls it."""
    # The policy's precision: otherwise a copy of the policy would differ from it.
    with learner.autocast():
        if field == "teacher_logprobs":
            assert learner.teachers is not None
            return learner.teachers.logprobs(on_device, learner.policy).to(learner.dtype)
        with learner.fixed(field) as model:
            scored = model(on_device.input_ids, on_device.attention_mask, on_device.loss_mask)
        return scored.logprobs.to(learner.dtype)


@torch.no_grad()
def teacher_states(learner: Learner, on_device: MicroBatch) -> list[TeacherStates]:
    """Return what the divergences from the teachers follow from; every rank calls it."""
    assert learner.teachers is not None
    with learner.autocast():
        return learner.teachers.states(on_device, learner.policy, learner.own)


@torch.no_grad()
def teacher_logits(learner: Learner, on_device: MicroBatch) -> Tensor:
    """Return the teachers' logits over the temperature `[batch, seq, vocab]`; every rank calls it."""
    assert learner.teachers is not None
    with learner.autocast():
        return learner.teachers.logits(on_device, learner.policy, vocab_size(learner.model))
