"""Tokenize prompts and references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from plugrad.contracts.environment import Example
from plugrad.errors import DataError, ModelError
from plugrad.rollout.engine import Prompt


def tokenize_prompts(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, *, room: int | None) -> list[Prompt]:
    """Tokenize each example's `prompt`. Chat messages go through the chat template.

    Args:
        examples: each has a column `prompt`.
        tokenizer: the policy's.
        room: the maximum number of tokens in a prompt, or None for no limit.

    Raises:
        DataError: a prompt is empty, too long, or neither a string nor messages.
        ModelError: a prompt is messages, but the tokenizer has no chat template.
    """
    texts = [prompt_text(example, tokenizer) for example in examples]
    # A chat template already adds the special tokens.
    plain = [isinstance(example["prompt"], str) for example in examples]
    ids = [tokenizer(text, add_special_tokens=is_plain)["input_ids"] for text, is_plain in zip(texts, plain, strict=True)]
    for example, prompt_ids in zip(examples, ids, strict=True):
        _check_length(example, prompt_ids, room)
    return [Prompt(text, list(i), example) for text, i, example in zip(texts, ids, examples, strict=True)]


def tokenize_reference(example: Example, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokenize the example's `reference` as a completion, which ends with the end-of-sequence token.

    Raises:
        DataError: the example has no string `reference`.
    """
    return [*tokenizer(reference_text(example), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def reference_text(example: Example) -> str:
    """Return the example's `reference`.

    Raises:
        DataError: it is missing or not a string.
    """
    reference = example.get("reference")
    if not isinstance(reference, str):
        raise DataError(
            f"the dataset engine replays the column 'reference', but example {example.get('example_id')!r} has "
            f"{'none' if reference is None else type(reference).__name__ + ' there'} (columns: {', '.join(example)})."
        )
    return reference


def prompt_text(example: Example, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text of the example's `prompt`. Chat messages go through the chat template.

    Raises:
        DataError: the prompt is neither a string nor messages.
        ModelError: the prompt is messages, but the tokenizer has no chat template.
    """
    prompt: Any = example["prompt"]
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, Sequence) or not all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in prompt):
        raise DataError(
            f"the prompt of example {example.get('example_id')!r} is {prompt!r}: it must be a string or chat messages "
            "(a list of {role, content})."
        )
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the prompt of example {example.get('example_id')!r} is a list of chat messages, but the model's tokenizer has "
            "no chat template. Use an instruction-tuned model, or string prompts."
        )
    try:
        return str(tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True))
    except Exception as error:
        raise DataError(
            f"the chat template rejects the messages of example {example.get('example_id')!r}: {error} ({prompt!r})"
        ) from error


def _check_length(example: Example, prompt_ids: list[int], room: int | None) -> None:
    if not prompt_ids:
        raise DataError(f"the prompt of example {example.get('example_id')!r} is empty. Give every example a prompt.")
    if room is not None and len(prompt_ids) > room:
        raise DataError(
            f"the prompt of example {example.get('example_id')!r} has {len(prompt_ids)} tokens, but the model's context "
            f"leaves {room} besides rollout.max_new_tokens. Shorten the prompt or lower max_new_tokens."
        )
