"""Characters of prompts and references that the tokenizer cannot write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import normalize

from transformers import PreTrainedTokenizerBase

from plugrad.contracts.environment import Example
from plugrad.rollout.prompts import strings_of

NUM_SHOWN = 10
NUM_TRIED = 200
"""Texts that are tokenized whole, besides those with a suspicious character."""


@dataclass(frozen=True)
class Lacking:
    """What a tokenizer loses of the examples' texts."""

    num_examples: int
    first: Example
    characters: str
    """Empty if whole words are unknown to it."""

    def __str__(self) -> str:
        some = self.characters[:NUM_SHOWN] + ("..." if len(self.characters) > NUM_SHOWN else "")
        what = f"the characters {some!r}" if self.characters else "words"
        return (
            f"the model's tokenizer lacks {what} of {self.num_examples} examples, the first of them "
            f"{self.first.get('example_id')!r}: the model cannot read or write them, and never learns what depends on them. "
            "Use a model whose tokenizer has them, or other examples."
        )


def lacking(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> Lacking | None:
    """Return what the tokenizer loses: texts that become an unknown token, or that come back without some characters."""
    alphabet = sorted(set().union(*strings_of(examples)))
    suspects = {character for character in alphabet if _lost(character, tokenizer) is not None}
    found, characters = [], set[str]()
    for index, example in enumerate(examples):
        texts = [text for text in strings_of([example]) if index < NUM_TRIED or not suspects.isdisjoint(text)]
        lost = [lost for text in texts if (lost := _lost(text, tokenizer)) is not None]
        if lost:
            found.append(example)
            characters |= set().union(*lost)
    return Lacking(len(found), found[0], "".join(sorted(characters))) if found else None


def _lost(text: str, tokenizer: PreTrainedTokenizerBase) -> set[str] | None:
    """Return the characters that do not come back, or None if nothing is lost. Spaces and case may change."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    is_unknown = tokenizer.unk_token_id in ids and str(tokenizer.unk_token) not in text
    known = [token for token in ids if not is_unknown or token != tokenizer.unk_token_id]
    back = set(_plain(str(tokenizer.decode(known, clean_up_tokenization_spaces=False))))
    missing = {character for character in text if not set(_plain(character)) <= back}
    return missing if missing or is_unknown else None


def _plain(text: str) -> str:
    return "".join(normalize("NFKC", text).casefold().split())
