"""The samples of a run: taken from the batches of all ranks, and given to the file and to whoever shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from plugrad.config.run_file import RunFile
from plugrad.config.tables.samples_table import SamplesTable
from plugrad.contracts.rollout import Rollout
from plugrad.rollout.texts import Texts
from plugrad.trainer.batch.sampler import RolloutBatch
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.record.display import Display
from plugrad.trainer.samples.choice import chosen
from plugrad.trainer.samples.sample import Phase, Sample, make_sample
from plugrad.trainer.samples.samples_file import SamplesFile
from plugrad.trainer.tracking.trackers import Trackers


class Receiver(Protocol):
    """Gets the samples of one batch on the main rank: a file, a display."""

    def __call__(self, samples: Sequence[Sample], /) -> None:
        """Take them, in the order of the batch."""
        ...


@dataclass(frozen=True)
class Samples:
    """Takes samples where they are due. Every rank calls it, in the same order."""

    table: SamplesTable
    ranks: Ranks
    visible: Callable[[Sequence[int]], str]
    """Returns the text of tokens with all special tokens."""
    receivers: Sequence[Receiver] = ()
    trackers: Trackers = field(default_factory=Trackers)
    """Of the run: they are among the receivers, and get the records too."""

    def of_training(self, step: int, batch: RolloutBatch, *, is_last: bool) -> None:
        """Take samples of the first, of every `every_steps`-th and of the last step."""
        every = self.table.every_steps
        if every and (is_last or step == 1 or step % every == 0):
            self._take(step, "training", batch.groups, advantages=batch.advantages)

    def of_evaluation(self, step: int, groups: Sequence[Sequence[Rollout]], of_set: str | None = None) -> None:
        """Take samples of held-out examples, unless samples are turned off."""
        if self.table.every_steps:
            self._take(step, "evaluation", groups, of_set=of_set)

    def _take(
        self,
        step: int,
        phase: Phase,
        groups: Sequence[Sequence[Rollout]],
        *,
        advantages: Sequence[Sequence[Sequence[float]]] | None = None,
        of_set: str | None = None,
    ) -> None:
        shares = self.ranks.gather([[rollout["reward"] for rollout in group] for group in groups])
        first = sum(len(share) for share in shares[: self.ranks.index])
        own = [
            make_sample(
                groups[group - first][index],
                self.visible,
                step=step,
                phase=phase,
                of_set=of_set,
                group=group,
                advantages=None if advantages is None else advantages[group - first][index],
            )
            for group, index in chosen([row for share in shares for row in share], self.table.num)
            if first <= group < first + len(groups)
        ]
        samples = [sample for share in self.ranks.gather(own) for sample in share]
        if self.ranks.is_main:
            for receive in self.receivers:
                receive(samples)


def samples_of(run_file: RunFile, texts: Texts, display: Display, ranks: Ranks) -> Samples:
    """Return the samples of a run, as its run file has them."""
    trackers = Trackers()
    receivers: list[Receiver] = [SamplesFile(Path(run_file.output_dir)), trackers.samples, display.samples]
    return Samples(run_file.samples, ranks, texts.visible, receivers if ranks.is_main else [], trackers)
