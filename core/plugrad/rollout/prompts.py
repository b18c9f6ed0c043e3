"""Tokenize prompts and references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from transformers import PreTrainedTokenizerBase

from plugrad.contracts.environment import Example
from plugrad.errors import DataError, ModelError
from plugrad.host.chat_rules import check_text
from plugrad.rollout.chat import TurnEnd, render
from plugrad.rollout.engine import Prompt
from plugrad.rollout.special_tokens import PromptTokens
from plugrad.shown import printable, shown

TEACHER_PROMPT = "teacher_prompt"
"""The column of what a teacher reads in place of the prompt."""
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


def tokenize_completion(
    text: str, example: Example, tokenizer: PreTrainedTokenizerBase, end: TurnEnd | None = None
) -> list[int]:
    """Tokenize a text as a completion of the example's prompt.

    It ends as an answer does: after chat messages with `end`, which is how the chat template ends a turn, and otherwise with
    the end-of-sequence token.
    """
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    token = tokenizer.eos_token_id if end is None or is_plain(example) else end.token
    if ids and ids[-1] == token:
        return ids
    if end is None or is_plain(example):
        return [*ids, token]
    return list(tokenizer(text + end.text, add_special_tokens=False)["input_ids"])


def reference_texts(example: Example, num_rollouts: int) -> list[str]:
    """Return the completion that each rollout of an example replays: its `references`, or its `reference` for all.

    Raises:
        DataError: neither is there, one is not text, or there are more or fewer `references` than rollouts.
    """
    if "references" not in example:
        return [_reference_text(example)] * num_rollouts
    references: Any = example["references"]
    owner = f"the column 'references' of example {shown(example.get('example_id'))}"
    if not isinstance(references, list | tuple) or not all(isinstance(text, str) for text in references):
        raise DataError(f"{owner} is {shown(references)}: it must be a list of strings, one for each rollout to replay.")
    if len(references) != num_rollouts:
        raise DataError(
            f"{owner} has {len(references)}, and rollout.rollouts_per_example is {num_rollouts}: rollout j replays entry j. "
            f"Set rollouts_per_example = {len(references)}, or give every example {num_rollouts}."
        )
    return list(references)


def _reference_text(example: Example) -> str:
    reference = example.get("reference")
    if not isinstance(reference, str):
        raise DataError(
            f"the dataset engine replays the column 'reference' (or 'references', one for each rollout), but example "
            f"{shown(example.get('example_id'))} has {'none' if reference is None else type(reference).__name__ + ' there'} "
            f"(columns: {printable(', '.join(example))})."
        )
    return reference


def strings_of(examples: Iterable[Example]) -> Iterator[str]:
    """Yield the prompts and references that are strings, and the strings in those that are chat messages."""
    for example in examples:
        texts = (example.get("prompt"), example.get("reference"), example.get(TEACHER_PROMPT))
        for value in (*texts, *_list_of(example.get("references"))):
            messages = value if isinstance(value, list | tuple) else []
            contents = [message.get("content") for message in messages if isinstance(message, dict)]
            yield from (text for text in (value, *contents) if isinstance(text, str))


def _list_of(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def has_teacher_prompt(example: Example) -> bool:
    """Return whether the teacher reads something else than the prompt."""
    return example.get(TEACHER_PROMPT) is not None


def as_teacher_reads(example: Example) -> Example:
    """Return the example with the teacher's prompt as its prompt."""
    return {**example, "prompt": example[TEACHER_PROMPT]} if has_teacher_prompt(example) else example


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
    return messages_text(prompt, tokenizer, chat_template_kwargs, whose=f"example {shown(example.get('example_id'))}")


def messages_text(
    messages: Any, tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any], *, whose: str
) -> str:
    """Return chat messages as text.

    Args:
        messages: a list of them, or what was given instead.
        tokenizer: with a chat template.
        chat_template_kwargs: options of the chat template.
        whose: what the messages are the prompt of, for errors.

    Raises:
        DataError: they are no messages, or the chat template rejects them.
        ModelError: the tokenizer has no chat template.
    """
    _check_messages(messages, whose)
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the prompt of {whose} is a list of chat messages, but the model's tokenizer has no chat template. Use an "
            "instruction-tuned model, or string prompts."
        )
    try:
        return render(messages, tokenizer, chat_template_kwargs)
    except Exception as error:
        raise DataError(
            f"the chat template rejects the messages of {whose}: {printable(error)} ({shown(messages)})"
        ) from error


def _check_messages(prompt: Any, whose: str) -> None:
    if not isinstance(prompt, Sequence) or not all(
        isinstance(m, Mapping) and {"role", "content"} <= m.keys() for m in prompt
    ):
        raise DataError(
            f"the prompt of {whose} is {shown(prompt)}: it must be a string or chat messages (a list of {{role, content}})."
        )
    check_text(prompt, f"the prompt of {whose}")
    if not prompt:
        raise DataError(f"the prompt of {whose} has no messages. Give every example a prompt.")


def _check_length(example: Example, its_ids: list[int], room: int | None) -> None:
    if not its_ids:
        raise DataError(f"the prompt of example {shown(example.get('example_id'))} is empty. Give every example a prompt.")
    if room is not None and len(its_ids) > room:
        raise DataError(
            f"the prompt of example {shown(example.get('example_id'))} has {len(its_ids)} tokens, but the model's context "
            f"leaves {room} besides rollout.max_new_tokens. Shorten the prompt or lower max_new_tokens."
        )
