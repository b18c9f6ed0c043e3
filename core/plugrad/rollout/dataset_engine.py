"""The engine `dataset`: replays each example's reference completions, which makes the run supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from plugrad.rollout.engine import Completion, Prompt, Sampling
from plugrad.rollout.engine_implementation import EngineImplementation, EngineSetup
from plugrad.rollout.prompts import NO_OPTIONS
from plugrad.rollout.texts import Texts


class DatasetEngine:
    """Replays the columns `reference` or `references`, cut at `max_new_tokens`.

    It samples nothing, so completions have no log-probs.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any] = NO_OPTIONS) -> None:
        self._texts = Texts(tokenizer, chat_template_kwargs=chat_template_kwargs)
        self._version = 0

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return each prompt's references: entry j for completion j, or the only one for all."""
        return [
            [self._replay(ids, sampling) for ids in self._texts.references(prompt.example, sampling.num_completions)]
            for prompt in prompts
        ]

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Record the version. There are no weights to update."""
        self._version = version

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def _replay(self, ids: list[int], sampling: Sampling) -> Completion:
        truncated = len(ids) > sampling.max_new_tokens
        ids = ids[: sampling.max_new_tokens]
        return Completion(ids, None, truncated, [self._version] * len(ids))


def _open(setup: EngineSetup) -> DatasetEngine:
    return DatasetEngine(setup.model.tokenizer, setup.run_file.rollout.chat_template_kwargs)


IMPLEMENTATION = EngineImplementation(open=_open)
