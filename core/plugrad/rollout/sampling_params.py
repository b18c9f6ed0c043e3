"""What vLLM is told of how to sample: the same in this process and on servers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from plugrad.rollout.engine import Sampling


def sampling_params(sampling: Sampling, *, seed: int, stops: Iterable[int], vocab_size: int) -> dict[str, Any]:
    """Return the fields of vLLM's SamplingParams for all completions of one prompt.

    They come from softmax(logits / temperature) and nothing else: whatever shapes the distribution is said, since vLLM takes
    what is not from elsewhere.
    """
    return {
        # vLLM refuses to make a greedy one more than once.
        "n": sampling.num_distinct,
        "temperature": sampling.temperature,
        # vLLM adds the number of the completion to it.
        "seed": seed,
        "max_tokens": sampling.max_new_tokens,
        "min_tokens": 0,
        # It refuses those outside the vocabulary, which are never sampled.
        "stop_token_ids": sorted(stop for stop in stops if stop < vocab_size),
        # The end-of-sequence token is among them.
        "ignore_eos": True,
        # 0: the sampled token's alone.
        "logprobs": 0,
        "detokenize": False,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
    }
