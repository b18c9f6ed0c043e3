"""Evaluation: completions of held-out examples, the same ones every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from plugrad.config.run_file import RunFile
from plugrad.config.tables.evaluation_table import PREFIX, EvaluationTable
from plugrad.contracts.measures import Measures
from plugrad.rollout.engine import Sampling
from plugrad.trainer.batch.cut import Cutting
from plugrad.trainer.batch.failed_plays import check_failures
from plugrad.trainer.batch.sampler import Sampler
from plugrad.trainer.evaluation_plan import EvaluationPlan
from plugrad.trainer.held_out_metrics import HeldOutMetrics
from plugrad.trainer.held_out_numbers import held_out_numbers
from plugrad.trainer.held_out_sets import HeldOut
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.samples.samples import Samples
from plugrad.trainer.update.learner import Learner
from plugrad.trainer.update.run_progress import Progress

OTHER_SEED = 49_979_687
"""A prime, so that no rank samples with the seed of a training step."""


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, how often, and which result ends the run."""

    sampler: Sampler
    held_out: Sequence[HeldOut]
    """By environment."""
    metrics: HeldOutMetrics
    table: EvaluationTable
    max_new_tokens: int
    max_steps: int
    seed: int
    ranks: Ranks
    samples: Samples

    @classmethod
    def of(
        cls,
        run_file: RunFile,
        plan: EvaluationPlan,
        sampler: Sampler,
        learner: Learner,
        cutting: Cutting,
        samples: Samples,
    ) -> Evaluation:
        """Return the evaluation of a run."""
        return cls(
            sampler=sampler,
            held_out=plan.held_out,
            metrics=HeldOutMetrics.of(run_file, plan.metrics, learner, cutting),
            table=run_file.evaluation,
            max_new_tokens=run_file.rollout.max_new_tokens,
            max_steps=run_file.max_steps,
            seed=run_file.seed,
            ranks=learner.ranks,
            samples=samples,
        )

    def run_if_due(self, step: int, version: int) -> dict[str, float]:
        """Evaluate before the first step, every `every_steps` steps and after the last; otherwise return nothing.

        Args:
            step: how many steps were done.
            version: how many updates were.
        """
        every = self.table.every_steps
        return self.run(step, version) if every and (step % every == 0 or step == self.max_steps) else {}

    def run(self, step: int, version: int) -> dict[str, float]:
        """Return the numbers of every set. Each rank completes its share of the examples, one in several sets once."""
        core, of_metrics = Measures(), Measures()
        for part in self.held_out:
            self._add(part, Progress(step, self.max_steps, version), core, of_metrics)
        numbers = self.ranks.add_up(core).values_by_name()
        # A metric's number of the same name does not replace one of core's.
        return {**numbers, **self.ranks.add_up(of_metrics).values_by_name(), **numbers}

    def ends_the_run(self, evaluated: Mapping[str, float]) -> bool:
        """Return whether a held-out reward was measured and reaches `stop_at_reward`."""
        goal = self.table.stop_at_reward
        return bool(evaluated) and goal is not None and evaluated[f"{PREFIX}/reward"] >= goal

    def _add(self, part: HeldOut, progress: Progress, core: Measures, of_metrics: Measures) -> None:
        """Complete the examples of one environment, and add what is measured of them."""
        places = self.ranks.share_of(sorted({place for chosen in part.sets.values() for place in chosen}))
        sampler = replace(self.sampler, environment=part.environment)
        groups = sampler.sample([part.examples[place] for place in places], self._sampling())
        check_failures(groups, part.environment, self.ranks)
        inputs = self.metrics.inputs(groups, progress)
        for prefix, chosen in part.sets.items():
            counting = set(chosen)
            own = [index for index, place in enumerate(places) if place in counting]
            chosen_groups = [groups[index] for index in own]
            core.update(held_out_numbers(chosen_groups, prefix, self.table))
            self.samples.of_evaluation(progress.step, chosen_groups, prefix.removeprefix(PREFIX).removeprefix("/") or None)
            of_metrics.update(self.metrics.of_set(prefix, inputs, own, part.environment))

    def _sampling(self) -> Sampling:
        """Return what to sample: the same every time, so that evaluations differ by the policy alone."""
        return Sampling(
            num_completions=self.table.rollouts_per_example,
            max_new_tokens=self.max_new_tokens,
            temperature=self.table.temperature or 0.0,
            seed=0 if self.table.temperature is None else self.seed * 1_000_003 + (self.ranks.index + 1) * OTHER_SEED,
        )
