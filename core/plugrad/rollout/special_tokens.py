"""Special tokens at the ends of a prompt: those that the tokenizer adds, and those that the text already has."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

TEXT = "a"
"""Shows what a tokenizer adds. It is no special token."""


@dataclass(frozen=True)
class PromptTokens:
    """Tokenizes prompts that are to be continued, with the special tokens that the tokenizer puts in front.

    A beginning-of-sequence token that the text already has is not put there twice. An end-of-sequence token that the
    tokenizer would append is left out: nothing follows it.
    """

    tokenizer: PreTrainedTokenizerBase
    before: list[int]
    after: list[int]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> PromptTokens:
        """Try out what the tokenizer puts around a text."""
        own, whole = (list(tokenizer(TEXT, add_special_tokens=special)["input_ids"]) for special in (False, True))
        starts = (start for start in range(len(whole)) if whole[start : start + len(own)] == own)
        start = next(starts, 0)
        after = whole[start + len(own) :]
        while after and after[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id):
            after.pop()
        return cls(tokenizer, whole[:start], after)

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a prompt."""
        own = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return [*self._missing_in_front(own), *own, *self.after]

    def _missing_in_front(self, own: list[int]) -> list[int]:
        if own[: len(self.before)] == self.before:
            return []
        repeated = bool(self.before and own) and self.before[-1] == own[0] == self.tokenizer.bos_token_id
        return self.before[:-1] if repeated else self.before
