"""Check before the first rollout that every example fits the model's context and the token budget."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from plugrad.config.run_file import RunFile
from plugrad.contracts.environment import Example
from plugrad.errors import DataError
from plugrad.rollout.prompts import prompt_text, reference_text, tokenize_prompts, tokenize_reference

SPARE_TOKENS = 16
"""A margin for special tokens, where a text counts as short enough to skip tokenizing it."""


def check_examples_fit(
    train_examples: Sequence[Example],
    eval_examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    run_file: RunFile,
    room: int | None,
) -> None:
    """Check that every prompt fits the context, and that no sequence can exceed the token budget.

    Raises:
        DataError: a prompt is too long or not text, or a reference to replay is missing.
        ModelError: a prompt is chat messages, and the tokenizer has no chat template.
    """
    budget, max_new_tokens = run_file.tokens_per_micro_batch, run_file.rollout.max_new_tokens
    if room is not None and room < 1:
        raise DataError(
            f"rollout.max_new_tokens is {max_new_tokens}, but the model's context has {room + max_new_tokens} tokens: "
            "nothing is left for a prompt. Lower it."
        )
    replays = not run_file.rollout.engine_kind.samples
    if replays:
        for example in train_examples:
            reference_text(example)
    _tokenize_long_ones(eval_examples, tokenizer, room, longer_than=room)
    allowed = budget - max_new_tokens
    limit = allowed if room is None else min(allowed, room)
    longest, length = None, 0
    for example, prompt_length in _tokenize_long_ones(train_examples, tokenizer, room, longer_than=limit):
        completion = min(len(tokenize_reference(example, tokenizer)), max_new_tokens) if replays else max_new_tokens
        if prompt_length + completion > max(length, budget):
            longest, length = example, prompt_length + completion
    if longest is not None:
        raise DataError(
            f"prompt and completion of example {longest.get('example_id')!r} can reach {length} tokens together, but "
            f"tokens_per_micro_batch is {budget}: raise it to at least {length}, or lower rollout.max_new_tokens "
            f"({max_new_tokens})."
        )


def _tokenize_long_ones(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, room: int | None, *, longer_than: int | None
) -> list[tuple[Example, int]]:
    """Return the examples whose prompts may have more tokens than `longer_than`, with their number of tokens.

    A token covers at least one byte of text, or half a byte where a normalizer lengthens the text.
    """
    texts = [prompt_text(example, tokenizer) for example in examples]
    long = [
        example
        for example, text in zip(examples, texts, strict=True)
        if not text or (longer_than is not None and 2 * len(text.encode()) + SPARE_TOKENS > longer_than)
    ]
    return [(prompt.example, len(prompt.ids)) for prompt in tokenize_prompts(long, tokenizer, room=room)]
