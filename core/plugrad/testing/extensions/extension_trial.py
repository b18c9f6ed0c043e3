"""An extension on trial: its effect on rewards, and on each sequence's inputs, loss and gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.contracts.loss import BatchLossInputs
from plugrad.hookspecs import hook_names
from plugrad.host.hooks import Hooks
from plugrad.host.loss import keep_rows, sum_rows
from plugrad.host.trial import random_state_of
from plugrad.registry.bind import Component
from plugrad.testing.checks import NotApplicable
from plugrad.testing.hosting import bound_loss, bound_metric, hooks_of
from plugrad.testing.losses.loss_trial import gradients_of
from plugrad.testing.losses.trial_micro_batches import LENGTHS, draw_micro_batch, rows_of
from plugrad.testing.numbers import Numbers

PREPARED = ("trainer_logprobs", "inference_logprobs", "advantages", "old_logprobs", "entropy")
"""The fields that are compared, at tokens that still count."""


@dataclass(frozen=True)
class Hosted:
    """An instance of the extension, and core's hooks with it around them."""

    instance: Any
    hooks: Hooks


@dataclass(frozen=True)
class Prepared:
    """A micro-batch after `prepare_loss` and `compute_loss`."""

    inputs: BatchLossInputs
    """All rows, emptied ones included."""
    kept: Tensor
    """Bool `[batch]`: the rows that still count."""
    values: Tensor
    """The losses of those rows."""
    gradient: Tensor
    """With respect to the policy's log-probs, `[batch, seq]`."""


@dataclass(frozen=True)
class ExtensionTrial:
    """An extension on trial."""

    component: Component

    def fresh(self) -> Hosted:
        """Return a new instance among core's hooks, as a run creates it."""
        instance = self.component.create()
        return Hosted(instance, hooks_of(self.component, instance, [bound_metric()]))

    def implemented(self) -> list[str]:
        """Return the names of the hooks that it implements."""
        instance = self.component.create()
        return [name for name in hook_names() if hasattr(getattr(instance, name, None), "plugrad_impl")]

    def require(self, *hooks: str) -> None:
        """Raise NotApplicable if it implements none of these hooks."""
        if not set(hooks) & set(self.implemented()):
            raise NotApplicable(f"it does not implement {' or '.join(hooks)}")

    def rewards(self, inputs: AdvantageInputs, hosted: Hosted | None = None, seed: int = 0) -> Numbers:
        """Return rewards and advantages after its hooks. Random numbers come from this seed."""
        hooks = (hosted or self.fresh()).hooks
        with random_state_of(seed):
            prepared = hooks.prepare_advantages(inputs)
            outputs = hooks.compute_advantages(prepared)
        rows = outputs.advantages
        by_rollout = rows.flatten().tolist() if isinstance(rows, Tensor) else [t.sum().item() for g in rows for t in g]
        rewards: list[float] = prepared.rewards.flatten().tolist()
        return {
            **{f"the reward of rollout {index}": value for index, value in enumerate(rewards)},
            **{f"the advantage of rollout {index}": value for index, value in enumerate(by_rollout)},
        }

    def prepared(self, inputs: BatchLossInputs, hosted: Hosted | None = None, seed: int = 0) -> Prepared:
        """Return a micro-batch after its hooks, called as in the trainer's step."""
        hooks, loss = (hosted or self.fresh()).hooks, bound_loss()
        leaf = inputs.trainer_logprobs.clone().requires_grad_()
        with random_state_of(seed):
            found = hooks.prepare_loss(loss, loss.view(replace(inputs, trainer_logprobs=leaf)))
            kept = found.loss_mask.any(dim=1)
            if not bool(kept.any()):
                return Prepared(found, kept, leaf.new_zeros(0), torch.zeros_like(leaf))
            outputs = hooks.compute_loss(loss, keep_rows(found, kept))
        values = sum_rows(outputs, found.loss_mask[kept])
        return Prepared(found, kept, values, gradients_of(values.sum(), [leaf])[0])

    def sequences(self, rows: Sequence[int], hosted: Hosted | None = None, seed: int = 0, batch: int = 0) -> Numbers:
        """Return the numbers of some sequences of a drawn batch, in one micro-batch, by their place in that batch."""
        inputs = rows_of(draw_micro_batch(seed=batch), rows)
        found = self.prepared(inputs, hosted, seed)
        numbers: dict[str, float] = {}
        values = iter(found.values.tolist())
        for place, row in enumerate(rows):
            numbers[f"the loss of sequence {row}"] = next(values) if bool(found.kept[place]) else 0.0
            numbers |= _tokens(found, place, inputs.loss_mask[place], f"of sequence {row}, token")
        return numbers

    def batch(self, index: int, hosted: Hosted | None = None, seed: int = 0) -> Numbers:
        """Return the numbers of a whole drawn batch in one micro-batch."""
        return self.sequences(range(len(LENGTHS)), hosted, seed, batch=index)


def _tokens(found: Prepared, place: int, counted: Tensor, of_what: str) -> Numbers:
    """Return the numbers of each token: whether it still counts, and if so its inputs and gradient."""
    mask = found.inputs.loss_mask[place]
    numbers: dict[str, float] = {}
    for token, slot in enumerate(counted.nonzero().flatten().tolist()):
        numbers[f"loss_mask {of_what} {token}"] = float(mask[slot])
        numbers[f"the gradient {of_what} {token}"] = found.gradient[place, slot].item()
        for field in PREPARED if bool(mask[slot]) else ():
            values = getattr(found.inputs, field)
            numbers |= {} if values is None else {f"{field} {of_what} {token}": values[place, slot].item()}
    return numbers
