"""From examples to tokens and from completions to text, by one tokenizer and the settings of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from plugrad.config.tables.rollout_table import RolloutTable
from plugrad.contracts.environment import Example
from plugrad.rollout.chat import TurnEnd, turn_end
from plugrad.rollout.completion_text import completion_text, cut_at_stop, visible_text
from plugrad.rollout.engine import Completion, Prompt
from plugrad.rollout.prompts import (
    as_teacher_reads,
    has_teacher_prompt,
    messages_text,
    prompt_text,
    reference_texts,
    tokenize_completion,
    tokenize_prompts,
)


@dataclass(frozen=True)
class Texts:
    """Tokenizes prompts and references, and decodes completions."""

    tokenizer: PreTrainedTokenizerBase
    ends: frozenset[int] = frozenset()
    """The tokens that end a completion."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    skip_special_tokens: bool = False
    stop: Sequence[str] = ()
    """The strings that end a completion."""

    @classmethod
    def of(cls, table: RolloutTable, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int] = frozenset()) -> Texts:
        """Take the settings from the run file."""
        return cls(tokenizer, ends, table.chat_template_kwargs, table.skip_special_tokens, tuple(table.stop))

    def for_another_thread(self) -> Texts:
        """Return the same with a tokenizer of its own: one is no safe thing to use in two threads."""
        return replace(self, tokenizer=deepcopy(self.tokenizer))

    @cached_property
    def all_ends(self) -> frozenset[int]:
        """The tokens that end a completion, and the one with which the chat template ends an answer."""
        return self.ends if self.turn_end is None else self.ends | {self.turn_end.token}

    @cached_property
    def turn_end(self) -> TurnEnd | None:
        """How the chat template ends an answer."""
        return turn_end(self.tokenizer, self.chat_template_kwargs)

    def prompts(self, examples: Sequence[Example], *, room: int | None) -> list[Prompt]:
        """Tokenize prompts: see `tokenize_prompts`."""
        return tokenize_prompts(examples, self.tokenizer, room=room, chat_template_kwargs=self.chat_template_kwargs)

    def prompt_text(self, example: Example) -> str:
        """Return the text of the example's prompt: see `prompt_text`."""
        return prompt_text(example, self.tokenizer, self.chat_template_kwargs)

    def rendered(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = (), *, whose: str) -> str:
        """Return chat messages as the text that the model continues: see `messages_text`."""
        options = {**self.chat_template_kwargs, "tools": list(tools)} if tools else self.chat_template_kwargs
        return messages_text(messages, self.tokenizer, options, whose=whose)

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text in the middle of a conversation: none is added at its ends."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def teacher_prompt(self, example: Example) -> list[int] | None:
        """Tokenize the column `teacher_prompt` as a prompt; return None without one: the teacher then reads the prompt."""
        return self.prompts([as_teacher_reads(example)], room=None)[0].ids if has_teacher_prompt(example) else None

    def references(self, example: Example, num_rollouts: int) -> list[list[int]]:
        """Tokenize what each rollout of an example replays: see `reference_texts` and `tokenize_completion`."""
        texts = reference_texts(example, num_rollouts)
        ids = {text: tokenize_completion(text, example, self.tokenizer, self.turn_end) for text in dict.fromkeys(texts)}
        return [ids[text] for text in texts]

    def cut(self, completion: Completion) -> Completion:
        """End a sampled completion at its first stop string."""
        return cut_at_stop(completion, self.tokenizer, self.stop)

    def completion(self, completion: Completion) -> str:
        """Return the text of a completion, as the environment sees it."""
        return completion_text(completion.ids, self.tokenizer, self.all_ends, skip_special_tokens=self.skip_special_tokens)

    def answer(self, completion: Completion) -> str:
        """Return the text of a completion as a message of a chat: with special tokens, without the one that ended it."""
        return completion_text(completion.ids, self.tokenizer, self.all_ends, skip_special_tokens=False)

    def visible(self, ids: Sequence[int]) -> str:
        """Return the text of tokens with every special token in it, for people to read."""
        return visible_text(ids, self.tokenizer)
