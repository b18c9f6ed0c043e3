"""The sampling parameters for vLLM, in this process and on servers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from plugrad.rollout.engine import Sampling


def sampling_params(
    sampling: Sampling, *, seed: int, max_new_tokens: int, stops: Iterable[int], vocab_size: int
) -> dict[str, Any]:
    """Return the fields of vLLM's SamplingParams for all completions of one prompt.

    Completions come from softmax(logits / temperature) and nothing else. Every field that shapes the distribution is set,
    because vLLM takes unset ones from elsewhere.
    """
    return {
        # vLLM refuses more than one greedy completion.
        "n": sampling.num_distinct,
        "temperature": sampling.temperature,
        # vLLM adds the index of the completion.
        "seed": seed,
        "max_tokens": max_new_tokens,
        "min_tokens": 0,
        # vLLM refuses tokens outside the vocabulary. They are never sampled.
        "stop_token_ids": sorted(stop for stop in stops if stop < vocab_size),
        # The stop tokens already include the end-of-sequence token.
        "ignore_eos": True,
        # 0: only the sampled token's.
        "logprobs": 0,
        "detokenize": False,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
    }
