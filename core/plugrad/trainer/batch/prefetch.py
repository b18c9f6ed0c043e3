"""The rollouts of each step: sampled when the loop takes them, or ahead, while the policy trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import Protocol

import torch

from plugrad.config.run_file import RunFile
from plugrad.contracts.environment import Example
from plugrad.contracts.rollout import Rollout
from plugrad.errors import EngineError
from plugrad.rollout.engine import Sampling
from plugrad.rollout.texts import Texts
from plugrad.trainer.batch.background_thread import Worker
from plugrad.trainer.batch.failed_plays import baselines, failures_of
from plugrad.trainer.batch.sampler import RolloutBatch, Sampler

ATTEMPTS = 3
"""How often rollouts of a policy that is too old are sampled again."""
OTHER_SEED = 32_452_843
"""Added to the seed of a step for each further attempt: the same seed would draw the same rollouts."""


@dataclass(frozen=True)
class Drawing:
    """Samples this rank's share of one batch."""

    batches: Iterator[Sequence[Example]]
    """This rank's share of each batch."""
    sampler: Sampler
    sampling: Callable[[int], Sampling]
    """What to sample at a step, including the seed."""
    greedy: Sampler | None
    """Samples greedy completions, where the advantage compares with them."""

    def draw(self, step: int, oldest: int) -> RolloutBatch:
        """Sample a batch, and sample again every rollout with a token from weights older than `oldest`.

        Raises:
            EngineError: the engine keeps sampling with older weights.
        """
        examples, sampling = next(self.batches), self.sampling(step)
        groups = self.sampler.sample(examples, sampling)
        num_dropped = self._replace_old(groups, examples, sampling, oldest)
        if self.greedy is None:
            return RolloutBatch(groups, num_dropped=num_dropped)
        greedy = self.greedy.sample_greedy(examples, sampling)
        rewards, failures = baselines(greedy, groups), failures_of(greedy)
        return RolloutBatch(groups, greedy_rewards=rewards, greedy_failures=failures, num_dropped=num_dropped)

    def _replace_old(self, groups: list[list[Rollout]], examples: Sequence[Example], sampling: Sampling, oldest: int) -> int:
        """Replace old rollouts with fresh ones; return how many were replaced."""
        num_dropped = 0
        for attempt in range(1, ATTEMPTS + 1):
            places = [(i, j) for i, group in enumerate(groups) for j, r in enumerate(group) if _version(r) < oldest]
            if not places:
                return num_dropped
            num_dropped += len(places)
            concerned = sorted({i for i, _ in places})
            again = replace(sampling, seed=sampling.seed + attempt * OTHER_SEED)
            fresh = dict(zip(concerned, self.sampler.sample([examples[i] for i in concerned], again), strict=True))
            for i, j in places:
                groups[i][j] = fresh[i][j]
        found = sorted({_version(rollout) for group in groups for rollout in group if _version(rollout) < oldest})
        if found:
            raise EngineError(
                f"the engine samples with weights of version {', '.join(map(str, found))}, even after {ATTEMPTS} more "
                f"attempts; rollout.max_staleness allows {oldest} or newer. Check that weight updates reach the engine."
            )
        return num_dropped


def sampling_of(run_file: RunFile, rank: int) -> Callable[[int], Sampling]:
    """Return a function from a step to what a rank samples at that step."""
    table = run_file.rollout
    return lambda step: Sampling(
        num_completions=table.rollouts_per_example,
        max_new_tokens=table.max_new_tokens,
        temperature=table.temperature,
        # Primes: no two ranks or steps share a seed, and neither do runs with neighbouring seeds.
        seed=run_file.seed * 1_000_003 + step + rank * 15_485_863,
    )


def texts_for_sampling(run_file: RunFile, texts: Texts) -> Texts:
    """Return the texts of what samples: where it does so ahead, in a thread of its own, with a tokenizer of its own."""
    return texts.for_another_thread() if run_file.rollout.max_staleness else texts


class Rollouts(Protocol):
    """The batches of a run, in order."""

    def take(self, step: int) -> RolloutBatch:
        """Return the batch of this step."""
        ...

    def set_version(self, version: int) -> None:
        """Note the version of the weights that the engine has now: before the first step, and after each."""
        ...

    def ahead(self) -> list[RolloutBatch]:
        """Return the next batches that are sampled already, in order."""
        ...

    def close(self, *, waits: bool = True) -> None:
        """Stop sampling. Without `waits`, return while a batch may still be under way in another thread."""
        ...


class WhenNeeded:
    """Samples each batch when the loop takes it: on policy."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._version = 0

    def take(self, step: int) -> RolloutBatch:
        """Sample the batch of this step now."""
        return self._drawing.draw(step, self._version)

    def set_version(self, version: int) -> None:
        """Reject completions of older weights from now on."""
        self._version = version

    def ahead(self) -> list[RolloutBatch]:
        """Return nothing: no batch is sampled ahead."""
        return []

    def close(self, *, waits: bool = True) -> None:
        """Do nothing: no batch is under way."""


class Ahead:
    """Samples the next batches in a thread while the policy trains on this one.

    When a batch is trained on, the policy is at most `max_staleness` steps ahead of the oldest weights that sampled a token.
    """

    def __init__(
        self,
        drawing: Drawing,
        max_staleness: int,
        max_steps: int,
        *,
        first_step: int = 0,
        kept: Sequence[RolloutBatch] = (),
    ) -> None:
        """Begin with `first_step`, and with the batches that an earlier run had sampled ahead."""
        self._drawing = drawing
        self._max_staleness = max_staleness
        self._max_steps = max_steps
        self._version = 0
        """The version of the weights at the start of the step that is taken next."""
        self._scheduled: deque[Future[RolloutBatch]] = deque(map(_settled, kept))
        self._next_step = first_step + len(kept)
        self._worker = Worker("plugrad-rollouts", _settings_of_this_thread())

    def take(self, step: int) -> RolloutBatch:
        """Wait for the batch of this step, and schedule the next ones."""
        self._schedule_up_to(step)
        sampled = self._scheduled.popleft().result()
        self._schedule_up_to(min(step + self._max_staleness, self._max_steps - 1))
        return sampled

    def set_version(self, version: int) -> None:
        """Note the version of the weights at the start of the next step."""
        self._version = version

    def ahead(self) -> list[RolloutBatch]:
        """Return the next batches that are sampled already. One that is being sampled is not among them."""
        done = takewhile(lambda future: future.done() and not future.exception(), self._scheduled)
        return [future.result() for future in done]

    def close(self, *, waits: bool = True) -> None:
        """Cancel queued batches and wait for the one in progress. Once the engine is closed, only its scoring remains."""
        self._worker.close(waits=waits)

    def _schedule_up_to(self, step: int) -> None:
        for number in range(self._next_step, step + 1):
            # The step that is taken now is `max_staleness` before this one, or the first of the run.
            self._scheduled.append(self._worker.do(partial(self._drawing.draw, number, self._version)))
        self._next_step = max(self._next_step, step + 1)


def _settled(batch: RolloutBatch) -> Future[RolloutBatch]:
    future: Future[RolloutBatch] = Future()
    future.set_result(batch)
    return future


def _settings_of_this_thread() -> Callable[[], None]:
    """Return a function that gives another thread this one's device and number of threads: each thread has its own."""
    num_threads = torch.get_num_threads()
    device = torch.accelerator.current_device_index() if torch.accelerator.is_available() else None

    def begin() -> None:
        torch.set_num_threads(num_threads)
        if device is not None:
            torch.accelerator.set_device_index(device)

    return begin


def _version(rollout: Rollout) -> int:
    """Return the version of the oldest weights that sampled a token."""
    return min(rollout["policy_versions"], default=2**63)
