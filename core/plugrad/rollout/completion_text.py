"""A completion as the environment sees it: its text, and where a stop string ends it. The same for every engine."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from plugrad.rollout.engine import Completion


def completion_text(
    ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, ends: Collection[int], *, skip_special_tokens: bool
) -> str:
    """Return what the model wrote, special tokens included, without the end-of-sequence token and padding at the end.

    Args:
        ids: the tokens of a completion.
        tokenizer: the policy's.
        ends: the tokens that end a completion.
        skip_special_tokens: leave out all special tokens.
    """
    dropped = {*ends, tokenizer.eos_token_id, tokenizer.pad_token_id}
    length = len(ids)
    while length and ids[length - 1] in dropped:
        length -= 1
    return _decode(ids[:length], tokenizer, skip_special_tokens=skip_special_tokens)


def cut_at_stop(completion: Completion, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> Completion:
    """End a sampled completion with the token that completes the first stop string. Its tokens stay as they were sampled.

    A replayed completion, which has no log-probs, stays whole.
    """
    if not stop or completion.logprobs is None:
        return completion
    length = end_of_stop(completion.ids, tokenizer, stop)
    if length is None:
        return completion
    return replace(
        completion,
        ids=completion.ids[:length],
        logprobs=completion.logprobs[:length],
        truncated=False,
        policy_versions=completion.policy_versions[:length],
    )


def end_of_stop(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> int | None:
    """Return the least number of tokens whose text contains a stop string, or None if there is none."""

    def has_stopped(length: int) -> bool:
        text = _decode(ids[:length], tokenizer, skip_special_tokens=False)
        return any(string in text for string in stop)

    return bisect_left(range(len(ids)), True, key=has_stopped) if has_stopped(len(ids)) else None


def visible_text(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text of tokens with every special token in it, those at the end too."""
    return _decode(ids, tokenizer, skip_special_tokens=False)


def _decode(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, *, skip_special_tokens: bool) -> str:
    # Some tokenizers are configured to remove spaces before punctuation.
    text = tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)
    return str(text)
