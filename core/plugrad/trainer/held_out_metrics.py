"""The metrics of a run on held-out completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from plugrad.config.run_file import RunFile
from plugrad.contracts.measures import Measures
from plugrad.contracts.metric import MetricInputs
from plugrad.contracts.rollout import Rollout
from plugrad.host.environment import BoundEnvironment
from plugrad.host.evaluation_metrics import EvaluationMetrics, SetMetrics
from plugrad.host.hooks import Hooks, Host
from plugrad.host.metric import compute_metrics
from plugrad.host.trial import random_state_of
from plugrad.trainer.batch.cut import Cutting
from plugrad.trainer.batch.sampler import RolloutBatch, with_advantages
from plugrad.trainer.capture.watch import Watch
from plugrad.trainer.held_out_scores import Scoring
from plugrad.trainer.update.learner import Learner
from plugrad.trainer.update.run_progress import Progress


@dataclass(frozen=True)
class HeldOutMetrics:
    """Calls the metrics of each set. Extensions take no part: what they note is of updates."""

    metrics: EvaluationMetrics
    scoring: Scoring
    seed: int

    @classmethod
    def of(cls, run_file: RunFile, metrics: EvaluationMetrics, learner: Learner, cutting: Cutting) -> HeldOutMetrics:
        """Return those of a run."""
        return cls(metrics, Scoring(learner, cutting, run_file.evaluation.temperature or 1.0), run_file.seed)

    def inputs(self, groups: Sequence[list[Rollout]], progress: Progress) -> MetricInputs | None:
        """Return what the metrics get of this rank's completions, without advantages. Every rank calls it."""
        if not self.metrics.by_set:
            return None
        return self.scoring.inputs(groups, self.metrics.passes, progress)

    def of_set(
        self, prefix: str, inputs: MetricInputs | None, chosen: Sequence[int], environment: BoundEnvironment
    ) -> Measures:
        """Return what the metrics say of one set. Every rank calls it.

        Args:
            prefix: what the names of the set's numbers begin with.
            inputs: of all completions of this rank.
            chosen: the places of this rank's groups that are in the set.
            environment: of the set.
        """
        own = self.metrics.by_set.get(prefix)
        if own is None:
            return Measures()
        given = None if inputs is None or not chosen else of_groups(inputs, chosen)
        # Neither the next step nor the next evaluation depends on what a metric draws.
        with random_state_of(self.seed):
            given = self._with_advantages(own, given, environment)
            return Measures() if given is None else compute_metrics(own.metrics, given)

    def _with_advantages(
        self, own: SetMetrics, inputs: MetricInputs | None, environment: BoundEnvironment
    ) -> MetricInputs | None:
        if own.advantage is None:
            return inputs
        batch = RolloutBatch([] if inputs is None else inputs.rollouts)
        ranks = self.scoring.learner.ranks
        # A capture is of what is trained on.
        hooks, unwatched = Hooks(Host(own.advantage, []), []), Watch()
        found = with_advantages(batch, environment, hooks, ranks, unwatched).advantages
        if inputs is None:
            return None
        flat = [token for group in found for row in group for token in row]
        advantages = torch.zeros_like(inputs.advantages)
        advantages[inputs.loss_mask] = torch.tensor(flat, dtype=advantages.dtype, device=advantages.device)
        return replace(inputs, advantages=advantages)


def of_groups(inputs: MetricInputs, chosen: Sequence[int]) -> MetricInputs:
    """Return the inputs of some groups."""
    if len(chosen) == len(inputs.rollouts):
        return inputs
    sizes = [len(group) for group in inputs.rollouts]
    rows = [row for place in chosen for row in range(sum(sizes[:place]), sum(sizes[: place + 1]))]
    index = torch.tensor(rows, device=inputs.loss_mask.device)
    tensors: dict[str, Any] = {name: value[index] for name, value in vars(inputs).items() if isinstance(value, torch.Tensor)}
    return replace(inputs, rollouts=[inputs.rollouts[place] for place in chosen], **tensors)
