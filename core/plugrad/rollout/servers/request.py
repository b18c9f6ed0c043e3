"""One request: a prompt and how to complete it, in the form of vLLM's `/inference/v1/generate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from plugrad.rollout.engine import Prompt, Sampling
from plugrad.rollout.sampling_params import sampling_params
from plugrad.rollout.servers.answer import BYTES_OF_A_TOKEN, MIB


@dataclass(frozen=True)
class CompletionRequest:
    """A request for all the completions of one prompt, so that a group comes from one response."""

    prompt_ids: list[int]
    sampling: Sampling
    seed: int
    stops: frozenset[int]
    vocab_size: int

    @property
    def num_completions(self) -> int:
        """The number of completions that the response must have."""
        return self.sampling.num_distinct

    @property
    def max_bytes(self) -> int:
        """The most bytes that a right response could have."""
        return MIB + BYTES_OF_A_TOKEN * (self.num_completions * (self.sampling.max_new_tokens + 1) + len(self.prompt_ids))

    def body(self, salt: str) -> dict[str, Any]:
        """Return the request's JSON. vLLM samples from softmax(logits / temperature) and nothing else.

        `salt` keeps prefix-cache entries of other weights from being used.
        """
        sampled = sampling_params(
            self.sampling,
            seed=self.seed,
            max_new_tokens=self.sampling.max_new_tokens,
            stops=self.stops,
            vocab_size=self.vocab_size,
        )
        return {"token_ids": self.prompt_ids, "sampling_params": sampled, "cache_salt": salt}

    def __str__(self) -> str:
        tokens, n = len(self.prompt_ids), self.num_completions
        return f"{n} completion{'s' if n > 1 else ''} of a prompt of {tokens} token{'s' if tokens > 1 else ''}"


def requests_for(
    prompts: Sequence[Prompt], sampling: Sampling, *, stops: frozenset[int], vocab_size: int
) -> list[CompletionRequest]:
    """Return a request for each prompt."""
    return [
        CompletionRequest(
            prompt.ids,
            replace(sampling, max_new_tokens=sampling.limit_of(prompt)),
            sampling.seed_of(index, prompt),
            stops,
            vocab_size,
        )
        for index, prompt in enumerate(prompts)
    ]
