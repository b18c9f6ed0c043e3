"""Tokenize prompts and references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from transformers import PreTrainedTokenizerBase

from plugrad.contracts.environment import Example
from plugrad.errors import DataError, ModelError
from plugrad.rollout.chat import TurnEnd, render
from plugrad.rollout.engine import Prompt
from plugrad.rollout.special_tokens import PromptTokens
from plugrad.shown import printable, shown

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


def tokenize_prompts(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    *,
    room: int | None,
    chat_template_kwargs: Mapping[str, Any] = NO_OPTIONS,
) -> list[Prompt]:
    """Tokenize each example's `prompt`. Chat messages go through the chat template.

    A prompt never starts with two beginning-of-sequence tokens, and never ends with an end-of-sequence token that the
    tokenizer adds.

    Args:
        examples: each has a column `prompt`.
        tokenizer: the policy's.
        room: the maximum number of tokens in a prompt, or None for no limit.
        chat_template_kwargs: options of the chat template.

    Raises:
        DataError: a prompt is empty, too long, or neither a string nor messages.
        ModelError: a prompt is messages, but the tokenizer has no chat template.
    """
    texts = [prompt_text(example, tokenizer, chat_template_kwargs) for example in examples]
    plain = PromptTokens.of(tokenizer)
    ids = [
        # A chat template already adds the special tokens.
        plain.ids(text) if is_plain(example) else list(tokenizer(text, add_special_tokens=False)["input_ids"])
        for text, example in zip(texts, examples, strict=True)
    ]
    for example, its_ids in zip(examples, ids, strict=True):
        _check_length(example, its_ids, room)
    return [Prompt(text, its_ids, example) for text, its_ids, example in zip(texts, ids, examples, strict=True)]


def tokenize_reference(example: Example, tokenizer: PreTrainedTokenizerBase, end: TurnEnd | None = None) -> list[int]:
    """Tokenize the example's `reference` as a completion.

    It ends as an answer does: after chat messages with `end`, which is how the chat template ends a turn, and otherwise with
    the end-of-sequence token.

    Raises:
        DataError: the example has no string `reference`.
    """
    text = reference_text(example)
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    token = tokenizer.eos_token_id if end is None or is_plain(example) else end.token
    if ids and ids[-1] == token:
        return ids
    if end is None or is_plain(example):
        return [*ids, token]
    return list(tokenizer(text + end.text, add_special_tokens=False)["input_ids"])


def reference_text(example: Example) -> str:
    """Return the example's `reference`.

    Raises:
        DataError: it is missing or not a string.
    """
    reference = example.get("reference")
    if not isinstance(reference, str):
        raise DataError(
            f"the dataset engine replays the column 'reference', but example {shown(example.get('example_id'))} has "
            f"{'none' if reference is None else type(reference).__name__ + ' there'} (columns: {', '.join(example)})."
        )
    return reference


def strings_of(examples: Iterable[Example]) -> Iterator[str]:
    """Yield the prompts and references that are strings, and the strings in those that are chat messages."""
    for example in examples:
        for column in ("prompt", "reference"):
            value: Any = example.get(column)
            messages = value if isinstance(value, list | tuple) else []
            contents = [message.get("content") for message in messages if isinstance(message, dict)]
            yield from (text for text in (value, *contents) if isinstance(text, str))


def is_plain(example: Example) -> bool:
    """Return whether the prompt is a string, not chat messages."""
    return isinstance(example["prompt"], str)


def prompt_text(
    example: Example, tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any] = NO_OPTIONS
) -> str:
    """Return the text of the example's `prompt`. Chat messages go through the chat template.

    Raises:
        DataError: the prompt is neither a string nor messages.
        ModelError: the prompt is messages, but the tokenizer has no chat template.
    """
    prompt: Any = example["prompt"]
    if isinstance(prompt, str):
        return prompt
    _check_messages(example, prompt)
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the prompt of example {shown(example.get('example_id'))} is a list of chat messages, but the model's "
            "tokenizer has no chat template. Use an instruction-tuned model, or string prompts."
        )
    try:
        return render(prompt, tokenizer, chat_template_kwargs)
    except Exception as error:
        raise DataError(
            f"the chat template rejects the messages of example {shown(example.get('example_id'))}: {printable(error)} "
            f"({shown(prompt)})"
        ) from error


def _check_messages(example: Example, prompt: Any) -> None:
    if not isinstance(prompt, Sequence) or not all(
        isinstance(m, Mapping) and {"role", "content"} <= m.keys() for m in prompt
    ):
        raise DataError(
            f"the prompt of example {shown(example.get('example_id'))} is {shown(prompt)}: it must be a string or chat "
            "messages (a list of {role, content})."
        )
    if not prompt:
        raise DataError(
            f"the prompt of example {shown(example.get('example_id'))} has no messages. Give every example a prompt."
        )


def _check_length(example: Example, its_ids: list[int], room: int | None) -> None:
    if not its_ids:
        raise DataError(f"the prompt of example {shown(example.get('example_id'))} is empty. Give every example a prompt.")
    if room is not None and len(its_ids) > room:
        raise DataError(
            f"the prompt of example {shown(example.get('example_id'))} has {len(its_ids)} tokens, but the model's context "
            f"leaves {room} besides rollout.max_new_tokens. Shorten the prompt or lower max_new_tokens."
        )
