"""The engine `transformers`: generates with the model in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from plugrad.rollout.decoding import Decoding
from plugrad.rollout.engine import Completion, Prompt, Sampling
from plugrad.rollout.engine_implementation import EngineImplementation, EngineSetup
from plugrad.rollout.stops import stop_ids


class TransformersEngine:
    """Shares the trainer's model, so a policy update copies no weights."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> None:
        self._model = model
        self._batch_size = batch_size
        self._pad = int(tokenizer.pad_token_id)
        self._stops = stop_ids(model, tokenizer)
        self._version = 0

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Sample from softmax(logits / temperature). The model's generation config is ignored."""
        n = sampling.num_completions
        rows = [prompt.ids for prompt in prompts for _ in range(n)]
        device = self._model.device
        with _for_sampling(self._model), torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(sampling.seed)
            starts = range(0, len(rows), self._batch_size)
            flat = [c for start in starts for c in self._complete(rows[start : start + self._batch_size], sampling)]
        return [flat[start : start + n] for start in range(0, len(flat), n)]

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Record the version. The weights are already the trainer's."""
        self._version = version

    def close(self) -> None:
        """Do nothing: the model belongs to the trainer."""

    def _complete(self, rows: list[list[int]], sampling: Sampling) -> list[Completion]:
        distinct = {tuple(row): number for number, row in enumerate(dict.fromkeys(map(tuple, rows)))}
        input_ids, attention_mask = self._left_padded(list(distinct))
        tokens, logprobs = self._model.generate(  # type: ignore[operator]
            input_ids=input_ids,
            attention_mask=attention_mask,
            generation_config=GenerationConfig(
                max_new_tokens=sampling.max_new_tokens, pad_token_id=self._pad, use_cache=True
            ),
            custom_generate=Decoding((distinct[tuple(row)] for row in rows), self._stops, sampling),
        )
        return [self._completion(ids, lp) for ids, lp in zip(tokens.tolist(), logprobs.tolist(), strict=True)]

    def _completion(self, ids: list[int], logprobs: list[float]) -> Completion:
        end = next((i + 1 for i, token in enumerate(ids) if token in self._stops), None)
        length = len(ids) if end is None else end
        return Completion(ids[:length], logprobs[:length], end is None, [self._version] * length)

    def _left_padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        width = max(map(len, rows))
        ids = [[*[self._pad] * (width - len(row)), *row] for row in rows]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        return torch.tensor(ids, device=self._model.device), torch.tensor(mask, device=self._model.device)


@contextmanager
def _for_sampling(model: PreTrainedModel) -> Iterator[None]:
    """Set evaluation mode and no gradient. Clear the model's generation config, whose values would fill unset ones."""
    was_training, its_own = model.training, model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()
    try:
        with torch.no_grad():
            yield
    finally:
        model.generation_config = its_own
        model.train(was_training)


def _open(setup: EngineSetup) -> TransformersEngine:
    return TransformersEngine(setup.policy, setup.model.tokenizer, setup.run_file.rollout.generation_batch_size)


IMPLEMENTATION = EngineImplementation(open=_open)
