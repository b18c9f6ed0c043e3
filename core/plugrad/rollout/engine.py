"""The engine: token ids in; token ids and the log-probs with which they were sampled out."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from plugrad.contracts.environment import Example


@dataclass(frozen=True)
class Prompt:
    """A prompt, tokenized."""

    text: str
    ids: list[int]
    example: Example


@dataclass(frozen=True)
class Sampling:
    """How to complete prompts: from softmax(logits / temperature) and nothing else."""

    num_completions: int
    max_new_tokens: int
    temperature: float
    """0 is greedy."""
    seed: int

    @property
    def num_distinct(self) -> int:
        """How many completions of a prompt can differ: a greedy one is the same however often it is made."""
        return self.num_completions if self.temperature else 1

    def with_copies(self, groups: list[list[Completion]]) -> list[list[Completion]]:
        """Return groups of `num_completions`, for an engine that made `num_distinct` of each."""
        return [group * (self.num_completions // self.num_distinct) for group in groups]

    def seed_of(self, prompt: int) -> int:
        """Return a seed for the prompt of this index, for engines that have one a request.

        They add the number of the completion to it: far enough from other prompts' seeds.
        """
        return random.Random(f"{self.seed}/{prompt}").getrandbits(60)


@dataclass(frozen=True)
class Completion:
    """The tokens that followed a prompt, the end-of-sequence token included."""

    ids: list[int]
    logprobs: list[float] | None
    """Of each token under the distribution that sampled it, in nats; None where nothing was sampled."""
    truncated: bool
    policy_versions: list[int]
    """The version of the weights that sampled each token: an engine may be given new ones in the middle of a completion."""


@runtime_checkable
class RolloutEngine(Protocol):
    """Three methods; an engine is told how to find its model when it is made."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.num_completions` completions of each prompt, in order.

        The same prompts, seed and weights give the same completions.
        """
        ...

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Take the policy's weights, named as its Transformers model names them, tied ones too.

        A run calls it before the first `generate`, and after each step; an engine that cannot take weights while another
        thread generates waits.

        `weights` can be iterated again, and every rank must iterate it as often: where the policy is sharded, each weight is
        gathered from all of them.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds, and give up what another thread has it generate. Calling it again does nothing."""
        ...
