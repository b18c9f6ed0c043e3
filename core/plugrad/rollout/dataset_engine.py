"""The engine `dataset`: replays each example's reference completion, which makes the run supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from plugrad.rollout.engine import Completion, Prompt, Sampling
from plugrad.rollout.engine_implementation import EngineImplementation, EngineSetup
from plugrad.rollout.prompts import tokenize_reference


class DatasetEngine:
    """Replays the column `reference`, cut at `max_new_tokens`. It samples nothing, so completions have no log-probs."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._version = 0

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return each prompt's reference, `num_completions` times."""
        return [[self._replay(prompt, sampling)] * sampling.num_completions for prompt in prompts]

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Record the version. There are no weights to update."""
        self._version = version

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def _replay(self, prompt: Prompt, sampling: Sampling) -> Completion:
        ids = tokenize_reference(prompt.example, self._tokenizer)
        truncated = len(ids) > sampling.max_new_tokens
        ids = ids[: sampling.max_new_tokens]
        return Completion(ids, None, truncated, [self._version] * len(ids))


def _open(setup: EngineSetup) -> DatasetEngine:
    return DatasetEngine(setup.model.tokenizer)


IMPLEMENTATION = EngineImplementation(open=_open)
