"""The engine protocol: token ids in, sampled token ids and their log-probs out."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from plugrad.contracts.environment import Example


@dataclass(frozen=True)
class Reply:
    """A reply of a play, with the limit of its own."""

    play: int
    """The place of the play among all of a batch."""
    number: int
    """How many replies the play had asked for before."""
    max_new_tokens: int


@dataclass(frozen=True)
class Prompt:
    """A tokenized prompt."""

    text: str
    ids: list[int]
    example: Example
    reply: Reply | None = None
    """The reply that its completion becomes, in a play. Engines for plays alone heed it: see `GeneratesInRounds`."""


@dataclass(frozen=True)
class Sampling:
    """How to complete prompts. Samples come from softmax(logits / temperature) and nothing else."""

    num_completions: int
    max_new_tokens: int
    temperature: float
    """0 is greedy decoding."""
    seed: int

    @property
    def num_distinct(self) -> int:
        """Number of completions of a prompt that can differ: 1 for greedy decoding."""
        return self.num_completions if self.temperature else 1

    def with_copies(self, groups: list[list[Completion]]) -> list[list[Completion]]:
        """Repeat completions to groups of `num_completions`, for an engine that generated `num_distinct` of each."""
        return [group * (self.num_completions // self.num_distinct) for group in groups]

    def seed_of(self, index: int, prompt: Prompt) -> int:
        """Return the seed of one prompt, for engines with one seed per request.

        These engines add the index of the completion, so seeds of different prompts must be far apart. That of a reply does
        not depend on when it is asked for, nor on what else is.
        """
        place = index if prompt.reply is None else f"{prompt.reply.play}/{prompt.reply.number}"
        return random.Random(f"{self.seed}/{place}").getrandbits(60)

    def limit_of(self, prompt: Prompt) -> int:
        """Return how many tokens a completion of a prompt may have."""
        return self.max_new_tokens if prompt.reply is None else prompt.reply.max_new_tokens


@dataclass(frozen=True)
class Completion:
    """The tokens after a prompt, including the end-of-sequence token."""

    ids: list[int]
    logprobs: list[float] | None
    """Log-prob of each token under the distribution that sampled it, in nats. None if nothing was sampled."""
    truncated: bool
    policy_versions: list[int]
    """Version of the weights that sampled each token. Weights may be updated in the middle of a completion."""


@runtime_checkable
class RolloutEngine(Protocol):
    """The three methods of an engine. Its constructor takes whatever it needs to find the model."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.num_completions` completions of each prompt, in order.

        The same prompts, seed and weights give the same completions.
        """
        ...

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Load the policy's weights. Names are those of its Transformers model, and tied weights are included.

        A run calls this before the first `generate` and after each step. An engine that cannot load weights while another
        thread generates must wait.

        `weights` can be iterated more than once, but every rank must iterate it equally often: a sharded policy gathers each
        weight from all ranks.
        """
        ...

    def close(self) -> None:
        """Free all resources and abort a `generate` in another thread. Calling it again does nothing."""
        ...


@runtime_checkable
class GeneratesInRounds(Protocol):
    """What an engine may have beside: it can be told that several `generate` are the rounds of one batch of plays.

    Each prompt then has its `reply`: a seed and a limit of its own.
    """

    def together(self) -> AbstractContextManager[None]:
        """Keep what the rounds in the body have in common. New weights wait for its end."""
        ...


@runtime_checkable
class AnswersOneByOne(Protocol):
    """What an engine may have beside: it completes a prompt when it is asked to, whatever else it has to do."""

    def submit(self, prompt: Prompt, sampling: Sampling) -> Future[Completion]:
        """Ask for one completion of a prompt that has its `reply`, from any thread. Cancelling the future cancels that.

        The same prompt, seed and weights give the same completion.
        """
        ...
