"""Evaluation: completions of held-out examples, the same ones every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plugrad.config.run_file import RunFile
from plugrad.config.tables.evaluation_table import PREFIX, EvaluationTable
from plugrad.contracts.environment import Example
from plugrad.contracts.measures import Measures
from plugrad.contracts.where import Where
from plugrad.errors import DataError
from plugrad.rollout.engine import Sampling
from plugrad.shown import printable
from plugrad.trainer.batch.sampler import Sampler
from plugrad.trainer.held_out_numbers import held_out_numbers
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.samples.samples import Samples

OTHER_SEED = 49_979_687
"""A prime, so that no rank samples with the seed of a training step."""


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, how often, and which result ends the run."""

    sampler: Sampler
    examples: Sequence[Example]
    sets: Mapping[str, Sequence[int]]
    """The places of the examples of each set, by what the names of its numbers begin with."""
    table: EvaluationTable
    max_new_tokens: int
    seed: int
    ranks: Ranks
    samples: Samples

    @classmethod
    def of(
        cls, run_file: RunFile, sampler: Sampler, held_out: Sequence[Example], ranks: Ranks, samples: Samples
    ) -> Evaluation:
        """Return the evaluation of a run.

        Raises:
            DataError: a set has no example.
        """
        table = run_file.evaluation
        sets = sets_of(table, held_out) if table.every_steps else {}
        return cls(sampler, held_out, sets, table, run_file.rollout.max_new_tokens, run_file.seed, ranks, samples)

    def run_if_due(self, step: int, max_steps: int) -> dict[str, float]:
        """Evaluate before the first step, every `every_steps` steps and after the last; otherwise return nothing."""
        every = self.table.every_steps
        return self.run(step) if every and (step % every == 0 or step == max_steps) else {}

    def run(self, step: int) -> dict[str, float]:
        """Return the numbers of every set. Each rank completes its share of the examples, one in several sets once."""
        places = self.ranks.share_of(sorted({place for chosen in self.sets.values() for place in chosen}))
        groups = self.sampler.sample([self.examples[place] for place in places], self._sampling())
        measures = Measures()
        for prefix, chosen in self.sets.items():
            counting = set(chosen)
            own = [group for place, group in zip(places, groups, strict=True) if place in counting]
            measures.update(held_out_numbers(own, prefix, self.table))
            self.samples.of_evaluation(step, own, prefix.removeprefix(PREFIX).removeprefix("/") or None)
        return self.ranks.add_up(measures).values_by_name()

    def ends_the_run(self, evaluated: Mapping[str, float]) -> bool:
        """Return whether a held-out reward was measured and reaches `stop_at_reward`."""
        goal = self.table.stop_at_reward
        return bool(evaluated) and goal is not None and evaluated[f"{PREFIX}/reward"] >= goal

    def _sampling(self) -> Sampling:
        """Return what to sample: the same every time, so that evaluations differ by the policy alone."""
        return Sampling(
            num_completions=self.table.rollouts_per_example,
            max_new_tokens=self.max_new_tokens,
            temperature=self.table.temperature or 0.0,
            seed=0 if self.table.temperature is None else self.seed * 1_000_003 + (self.ranks.index + 1) * OTHER_SEED,
        )


def sets_of(table: EvaluationTable, held_out: Sequence[Example]) -> dict[str, list[int]]:
    """Return the places of the examples of each set, by what the names of its numbers begin with.

    Raises:
        DataError: a set has no example.
    """
    found = {PREFIX: list(range(min(table.num_examples, len(held_out))))}
    for name, each in table.sets.items():
        where = Where.of(each.where)
        places = [place for place, example in enumerate(held_out) if where.holds(example)]
        if not places:
            columns = printable(", ".join(dict.fromkeys(column for example in held_out for column in example)))
            raise DataError(
                f"none of the {len(held_out)} held-out examples meets the where of evaluation.sets.{name}, "
                f"{printable(str(where))}. Their columns are {columns}. A string is not a number, and true is not 1."
            )
        found[f"{PREFIX}/{name}"] = places[: each.num_examples or table.num_examples]
    return found
