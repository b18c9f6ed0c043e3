"""What metrics read of held-out completions: what the models say of them, in passes without gradient."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch

from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.metric import MetricInputs
from plugrad.contracts.rollout import Rollout
from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.scored import Scored, Wanted
from plugrad.rollout.segments import longest_row, num_tokens_read
from plugrad.trainer.batch.cut import Cutting, OptimizerBatch
from plugrad.trainer.batch.sampler import RolloutBatch
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.update.fixed_scores import fixed_logprobs
from plugrad.trainer.update.learner import Learner
from plugrad.trainer.update.metric_inputs import metric_inputs
from plugrad.trainer.update.objective import loss_inputs
from plugrad.trainer.update.run_progress import Progress


@dataclass(frozen=True)
class Scoring:
    """Scores completions that nothing is trained on."""

    learner: Learner
    cutting: Cutting
    """That of training. A single completion may be longer than its budget, which is for passes with gradient."""
    temperature: float
    """That samples the completions, and 1 for greedy ones: this is where engines give their log-probs."""

    def inputs(self, groups: Sequence[list[Rollout]], fields: Collection[str], progress: Progress) -> MetricInputs | None:
        """Return what metrics get of this rank's completions; None if it has none. Every rank calls it.

        Args:
            groups: the completions of each example.
            fields: what the models must say of them. Where it is nothing, no model runs and log-probs are 0.
            progress: of the run.
        """
        part = self._cut(list(groups), runs_models=bool(fields))
        scored = []
        with ExitStack() as stack, torch.no_grad():
            for policy in self.learner.policies:
                stack.enter_context(policy.at_temperature(self.temperature))
            for micro_batch in part.micro_batches:
                inputs = self._scored(micro_batch, fields, progress) if fields else _unscored(micro_batch, progress)
                scored.append((micro_batch.rows, inputs))
        self.learner.put_away()
        return metric_inputs(part, scored, progress) if groups else None

    def _cut(self, groups: list[list[Rollout]], *, runs_models: bool) -> OptimizerBatch:
        """Lay the completions out: in the same number of micro-batches on every rank, or in one where no model runs."""
        rollouts = [rollout for group in groups for rollout in group]
        lengths = [num_tokens_read(rollout) for rollout in rollouts]
        longest, layout = max(map(longest_row, rollouts), default=0), replace(self.cutting.layout, passes=1)
        if runs_models:
            layout = replace(layout, token_budget=max(layout.token_budget, longest))
        else:
            layout = replace(layout, token_budget=max(1, sum(lengths)), packed=True)
        empty = [[[0.0] * len(rollout["completion_ids"]) for rollout in group] for group in groups]
        rewards = [[rollout["reward"] for rollout in group] for group in groups]
        batch = RolloutBatch(groups, advantages=empty, rewards=rewards)
        # Nothing is divided here.
        cutting = Cutting(updates_per_batch=1, max_new_tokens=self.cutting.max_new_tokens, layout=layout)
        [part] = cutting.cut(batch, self.learner.ranks if runs_models else Ranks())
        return part

    def _scored(self, micro_batch: MicroBatch, fields: Collection[str], progress: Progress) -> BatchLossInputs:
        learner, on_device = self.learner, micro_batch.to(self.learner.accelerator.device)
        # Further: what routers choose here is not counted among the choices of an update.
        wanted = Wanted(entropy="value" if "entropy" in fields else "none", values="values" in fields, further=True)
        scored: Scored = learner.policy(on_device.input_ids, on_device.attention_mask, on_device.loss_mask, wanted)
        if "ref_logprobs" in fields:
            on_device = replace(on_device, ref_logprobs=fixed_logprobs(learner, on_device, "ref_logprobs"))
        return loss_inputs(scored, on_device, progress)


def _unscored(micro_batch: MicroBatch, progress: Progress) -> BatchLossInputs:
    return loss_inputs(Scored(torch.zeros_like(micro_batch.advantages)), micro_batch, progress)
