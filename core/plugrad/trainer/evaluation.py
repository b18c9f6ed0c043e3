"""Evaluation: greedy completions of held-out examples, always the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plugrad.contracts.environment import Example
from plugrad.contracts.measures import Mean, Measures
from plugrad.rollout.engine import Sampling
from plugrad.trainer.batch.sampler import Sampler
from plugrad.trainer.ranks.ranks import Ranks


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, how often, and when that ends the run."""

    sampler: Sampler
    examples: Sequence[Example]
    max_new_tokens: int
    every_steps: int
    stop_at_reward: float | None
    ranks: Ranks

    def is_due(self, step: int, max_steps: int) -> bool:
        """Whether to evaluate after `step` steps: before the first, every so many, and after the last."""
        return bool(self.every_steps) and (step % self.every_steps == 0 or step == max_steps)

    def run(self) -> dict[str, float]:
        """Return the mean reward and length of greedy completions; each rank completes its share."""
        sampling = Sampling(num_completions=1, max_new_tokens=self.max_new_tokens, temperature=0.0, seed=0)
        rollouts = [group[0] for group in self.sampler.rollouts(self.ranks.share_of(self.examples), sampling)]
        measures = Measures()
        measures.add("eval/reward", Mean.of(rollout["reward"] for rollout in rollouts))
        measures.add("eval/completion_length", Mean.of(float(len(r["completion_ids"])) for r in rollouts))
        return self.ranks.add_up(measures).values_by_name()

    def ends_the_run(self, found: dict[str, float]) -> bool:
        """Whether the held-out reward is what the run was to reach."""
        return self.stop_at_reward is not None and found["eval/reward"] >= self.stop_at_reward
