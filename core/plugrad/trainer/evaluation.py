"""Evaluation: greedy completions of held-out examples, the same ones every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plugrad.contracts.environment import Example
from plugrad.contracts.measures import Mean, Measures
from plugrad.rollout.engine import Sampling
from plugrad.trainer.batch.sampler import Sampler
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.samples.samples import Samples


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, how often, and which result ends the run."""

    sampler: Sampler
    examples: Sequence[Example]
    max_new_tokens: int
    every_steps: int
    stop_at_reward: float | None
    ranks: Ranks
    samples: Samples

    def run_if_due(self, step: int, max_steps: int) -> dict[str, float]:
        """Evaluate before the first step, every `every_steps` steps and after the last; otherwise return nothing."""
        is_due = bool(self.every_steps) and (step % self.every_steps == 0 or step == max_steps)
        return self.run(step) if is_due else {}

    def run(self, step: int) -> dict[str, float]:
        """Return the mean reward and length of greedy completions; each rank completes its share."""
        sampling = Sampling(num_completions=1, max_new_tokens=self.max_new_tokens, temperature=0.0, seed=0)
        groups = self.sampler.sample(self.ranks.share_of(self.examples), sampling)
        self.samples.of_evaluation(step, groups)
        rollouts = [group[0] for group in groups]
        measures = Measures()
        measures.add("eval/reward", Mean.of(rollout["reward"] for rollout in rollouts))
        measures.add("eval/completion_length", Mean.of(float(len(r["completion_ids"])) for r in rollouts))
        return self.ranks.add_up(measures).values_by_name()

    def ends_the_run(self, evaluated: Mapping[str, float]) -> bool:
        """Return whether a held-out reward was measured and reaches `stop_at_reward`."""
        return bool(evaluated) and self.stop_at_reward is not None and evaluated["eval/reward"] >= self.stop_at_reward
