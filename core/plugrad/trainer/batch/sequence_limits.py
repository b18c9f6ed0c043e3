"""Check before the first rollout that every example fits the model's context and the token budget, or leave it out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from plugrad.config.run_file import RunFile
from plugrad.contracts.environment import Example
from plugrad.errors import DataError
from plugrad.policy.context import context_of
from plugrad.rollout.prompts import TEACHER_PROMPT, as_teacher_reads, has_teacher_prompt
from plugrad.rollout.texts import Texts
from plugrad.shown import shown

logger = logging.getLogger("plugrad")

SPARE_TOKENS = 16
"""A margin for special tokens, where a text counts as short enough to skip tokenizing it."""
NUM_NAMED = 3
"""The number of long prompts that a message names."""


@dataclass(frozen=True)
class FittingExamples:
    """The examples of a run that fit."""

    train: Sequence[Example]
    held_out: Sequence[Example]
    num_dropped: int
    """How many were left out of both."""


@dataclass(frozen=True)
class _TooLong:
    example: Example
    num_prompt_tokens: int
    num_tokens: int
    """The most tokens that prompt and completion can have together."""


def fitting_examples(
    train_examples: Sequence[Example],
    eval_examples: Sequence[Example],
    texts: Texts,
    run_file: RunFile,
    room: int | None,
) -> FittingExamples:
    """Return the examples whose prompts fit the context, and that cannot exceed the token budget when trained on.

    Args:
        train_examples: to train on.
        eval_examples: held out. The token budget does not bind them.
        texts: tokenizes them.
        run_file: has the limits. `rollout.drop_long_prompts` says whether to leave out what does not fit.
        room: the maximum number of tokens in a prompt, or None for no limit.

    Raises:
        DataError: prompts are too long and must not be left out, or a prompt is not text.
        ModelError: a prompt is chat messages, and the tokenizer has no chat template.
    """
    limits = _Limits(run_file, texts, room)
    held_out = limits.too_long(eval_examples, budget=None)
    train = limits.too_long(train_examples, budget=run_file.tokens_per_micro_batch)
    long = [*train.values(), *held_out.values()]
    if not long:
        return FittingExamples(train_examples, eval_examples, 0)
    drops = run_file.rollout.drop_long_prompts
    if not drops or len(train) == len(train_examples) or 0 < len(held_out) == len(eval_examples):
        raise DataError(limits.refusal(long, len(train_examples) + len(eval_examples), drops=drops))
    return FittingExamples(_without(train_examples, train), _without(eval_examples, held_out), len(long))


def check_teacher_prompts(
    examples: Sequence[Example], texts: Texts, run_file: RunFile, models: Sequence[PreTrainedModel]
) -> None:
    """Check what teachers read in place of prompts as `fitting_examples` checks prompts; none is left out.

    Args:
        examples: to train on.
        texts: tokenizes them.
        run_file: has the limits.
        models: of the policy and its teachers.

    Raises:
        DataError: it is too long with its completion, or no text.
    """
    own = [as_teacher_reads(example) for example in examples if has_teacher_prompt(example)]
    if not own:
        return
    contexts = [length for model in models if (length := context_of(model).length) is not None]
    room = min(contexts) - run_file.rollout.max_new_tokens if contexts else None
    try:
        limits = _Limits(run_file, texts, room)
        if long := list(limits.too_long(own, budget=run_file.tokens_per_micro_batch).values()):
            raise DataError(limits.refusal(long, len(own), drops=True))
    except DataError as error:
        raise DataError(f"the column {TEACHER_PROMPT}: {error}") from error


class _Limits:
    """How many tokens a prompt may have."""

    def __init__(self, run_file: RunFile, texts: Texts, room: int | None) -> None:
        self._max_new_tokens = run_file.rollout.max_new_tokens
        if room is not None and room < 1:
            raise DataError(
                f"rollout.max_new_tokens is {self._max_new_tokens}, but the model's context has "
                f"{room + self._max_new_tokens} tokens: nothing is left for a prompt. Lower it."
            )
        self._budget = run_file.tokens_per_micro_batch
        self._num_rollouts = run_file.rollout.rollouts_per_example
        self._replays = not run_file.rollout.engine_kind.samples
        self._texts, self._room = texts, room

    def too_long(self, examples: Sequence[Example], budget: int | None) -> dict[int, _TooLong]:
        """Return those that do not fit, by their index."""
        limits = [
            limit for limit in (self._room, None if budget is None else budget - self._max_new_tokens) if limit is not None
        ]
        found: dict[int, _TooLong] = {}
        for index, prompt in self._perhaps_longer(examples, min(limits, default=None)):
            completion = self._max_new_tokens
            if self._replays and budget is not None:
                replayed = self._texts.references(examples[index], self._num_rollouts)
                completion = min(max(map(len, replayed)), completion)
            long = _TooLong(examples[index], prompt, prompt + completion)
            if self._exceeds_context(long) or (budget is not None and long.num_tokens > budget):
                found[index] = long
        return found

    def refusal(self, long: Sequence[_TooLong], num_examples: int, *, drops: bool) -> str:
        """Return the message about prompts that do not fit."""
        named = [f"  {self._described(each)}" for each in long[:NUM_NAMED]]
        if len(long) > NUM_NAMED:
            named.append(f"  and {len(long) - NUM_NAMED} more")
        remedies = ["shorten them", f"lower rollout.max_new_tokens ({self._max_new_tokens})"]
        within = [each.num_tokens for each in long if not self._exceeds_context(each)]
        if within:
            remedies.append(f"raise tokens_per_micro_batch to at least {max(within)}")
        if not drops:
            remedies.append("set rollout.drop_long_prompts = true to leave them out")
        choices = f"{', '.join(remedies[:-1])}, or {remedies[-1]}."
        advice = f"Without them, nothing is left: {choices}" if drops else choices[0].upper() + choices[1:]
        head = f"{len(long)} of {num_examples} prompts {'are' if len(long) > 1 else 'is'} too long:"
        return "\n".join([head, *named, advice])

    def _described(self, long: _TooLong) -> str:
        name = f"example {shown(long.example.get('example_id'))}"
        if self._exceeds_context(long):
            return f"{name} has {long.num_prompt_tokens} tokens, but the model's context leaves {self._room} for a prompt"
        return f"{name} can reach {long.num_tokens} tokens with its completion; tokens_per_micro_batch is {self._budget}"

    def _exceeds_context(self, long: _TooLong) -> bool:
        return self._room is not None and long.num_prompt_tokens > self._room

    def _perhaps_longer(self, examples: Sequence[Example], limit: int | None) -> list[tuple[int, int]]:
        """Return index and number of tokens of the prompts that may have more tokens than `limit`.

        A token covers at least one byte of text, or half a byte where a normalizer lengthens the text.
        """
        texts = [self._texts.prompt_text(example) for example in examples]
        places = [
            place
            for place, text in enumerate(texts)
            if not text or (limit is not None and 2 * len(text.encode()) + SPARE_TOKENS > limit)
        ]
        prompts = self._texts.prompts([examples[place] for place in places], room=None)
        return [(place, len(prompt.ids)) for place, prompt in zip(places, prompts, strict=True)]


def _without(examples: Sequence[Example], left_out: Collection[int]) -> list[Example]:
    return [example for index, example in enumerate(examples) if index not in left_out]
