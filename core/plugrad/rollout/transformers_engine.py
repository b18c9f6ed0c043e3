"""The engine `transformers`: generates with the model in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from plugrad.errors import TrainingError
from plugrad.rollout.decoding import LogitsNotFinite
from plugrad.rollout.engine import Completion, Prompt, Sampling
from plugrad.rollout.engine_implementation import EngineImplementation, EngineSetup
from plugrad.rollout.stops import stop_ids
from plugrad.rollout.ways_to_decode import Ending, Rows, left_padded, length_of, way_to_decode


class TransformersEngine:
    """Shares the trainer's model, so a policy update copies no weights."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Find out by a trial how the model can be decoded.

        Args:
            model: the trainer's.
            tokenizer: the policy's.
            batch_size: rows that are decoded together.
            autocast: the precision in which the trainer computes.
        """
        self._model = model
        self._batch_size = batch_size
        self._autocast = autocast
        self._ending = Ending(stop_ids(model, tokenizer), int(tokenizer.pad_token_id))
        self._version = 0
        with _for_sampling(model), autocast():
            self._way = way_to_decode(model, self._ending.pad)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Sample from softmax(logits / temperature). The model's generation config is ignored.

        Raises:
            TrainingError: the model's logits are not finite.
        """
        n = sampling.num_completions
        rows = [prompt.ids for prompt in prompts for _ in range(n)]
        device = self._model.device
        flat: dict[int, Completion] = {}
        with _for_sampling(self._model), torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(sampling.seed)
            for batch in self._batches(rows):
                flat.update(zip(batch, self._complete([rows[row] for row in batch], sampling), strict=True))
        return [[flat[row] for row in range(start, start + n)] for start in range(0, len(rows), n)]

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Record the version. The weights are already the trainer's."""
        self._version = version

    def close(self) -> None:
        """Do nothing: the model belongs to the trainer."""

    def _batches(self, rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Yield the numbers of the rows that are decoded together: of one length, unless they may be padded."""
        of_length: dict[int, list[int]] = {}
        for row, ids in enumerate(rows):
            of_length.setdefault(0 if self._way.pads else len(ids), []).append(row)
        for numbers in of_length.values():
            yield from (numbers[start : start + self._batch_size] for start in range(0, len(numbers), self._batch_size))

    def _complete(self, rows: list[list[int]], sampling: Sampling) -> list[Completion]:
        distinct = {tuple(row): number for number, row in enumerate(dict.fromkeys(map(tuple, rows)))}
        input_ids, attention_mask = left_padded(list(distinct), self._ending.pad, self._model.device)
        batch = Rows(input_ids, attention_mask, [distinct[tuple(row)] for row in rows])
        try:
            with self._autocast():
                tokens, logprobs = self._way.complete(self._model, batch, self._ending, sampling)
        except LogitsNotFinite:
            raise TrainingError(self._not_finite()) from None
        return [self._completion(ids, lp) for ids, lp in zip(tokens.tolist(), logprobs.tolist(), strict=True)]

    def _completion(self, ids: list[int], logprobs: list[float]) -> Completion:
        length = length_of(ids, self._ending.stops)
        truncated = ids[length - 1] not in self._ending.stops
        return Completion(ids[:length], logprobs[:length], truncated, [self._version] * length)

    def _not_finite(self) -> str:
        if self._version == 0:
            return (
                "the model's logits are not finite before the first update, so no token can be sampled. Its weights may be "
                'damaged, or too large for their dtype: try model.dtype = "float32".'
            )
        updates = f"{self._version} update{'s' * (self._version > 1)}"
        return (
            f"the policy's logits are not finite after {updates}, so no token can be sampled: the updates have made its "
            "weights too large or NaN. Lower optimizer.lr or optimizer.max_grad_norm."
        )


@contextmanager
def _for_sampling(model: PreTrainedModel) -> Iterator[None]:
    """Set evaluation mode and no gradient. Clear the model's generation config, whose values would fill unset ones."""
    # Each module's own: a policy in training may keep some in evaluation mode.
    modes, its_own = [(module, module.training) for module in model.modules()], model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()
    try:
        with torch.no_grad():
            yield
    finally:
        model.generation_config = its_own
        for module, mode in modes:
            module.training = mode


def _open(setup: EngineSetup) -> TransformersEngine:
    batch_size = setup.run_file.rollout.generation_batch_size
    return TransformersEngine(setup.policy, setup.model.tokenizer, batch_size, setup.autocast)


IMPLEMENTATION = EngineImplementation(open=_open)
