"""The token sampling loop of the engine `transformers`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, GenerationConfig, PreTrainedModel

from plugrad.rollout.engine import Sampling

FIRST_DIMENSION_IS_ROWS = ("attention_mask", "position_ids", "token_type_ids")
"""Model inputs that Transformers prepares with one entry per row."""


class LogitsNotFinite(ArithmeticError):
    """A row's logits are NaN, or one of them is infinite."""


class Decoding:
    """Replaces the sampling loop of Transformers' `generate`, which still prepares cache, mask and positions for the model.

    Unlike the original loop, it reads each prompt once for all its completions, drops finished rows, and returns log-probs
    of the same softmax that it samples.
    """

    def __init__(self, prompt_of_row: Iterable[int], stops: Iterable[int], sampling: Sampling) -> None:
        self._prompt_of_row = list(prompt_of_row)
        self._stops = sorted(stops)
        self._sampling = sampling

    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: Int[Tensor, "prompts tokens"],
        *,
        logits_processor: object,
        stopping_criteria: object,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        **prepared: Any,
    ) -> tuple[Int[Tensor, "rows new"], Float[Tensor, "rows new"]]:
        """Return the sampled tokens and their log-probs. Entries after a row's first stop token are undefined.

        Logits processors and stopping criteria from `generate` are ignored: samples come from softmax(logits / temperature)
        and nothing else.

        Raises:
            LogitsNotFinite: there is nothing to sample from.
        """
        batch = _Batch(model, input_ids, prepared)
        rows = torch.tensor(self._prompt_of_row, device=input_ids.device)
        stops = torch.tensor(self._stops, device=input_ids.device)
        logits = batch.next_logits()[rows]
        batch.select(rows)
        shape = (len(rows), self._sampling.max_new_tokens)
        tokens, logprobs = input_ids.new_zeros(shape), torch.zeros(shape, device=input_ids.device)
        # The completion that each row of the batch belongs to, and whether it is unfinished.
        places, goes_on = torch.arange(len(rows), device=input_ids.device), torch.ones_like(rows, dtype=torch.bool)
        for position in range(self._sampling.max_new_tokens):
            if position:
                logits = batch.next_logits()
            drawn, of_drawn = draw(logits, self._sampling.temperature)
            tokens[places, position], logprobs[places, position] = drawn, of_drawn.float()
            batch.append(drawn)
            goes_on &= ~torch.isin(drawn, stops)
            left = int(goes_on.sum())
            if left == 0:
                break
            if _worth_dropping(left, len(goes_on)):
                batch.select(goes_on.nonzero().squeeze(1))
                places, goes_on = places[goes_on], goes_on[goes_on]
        return tokens, logprobs


def draw(logits: Float[Tensor, "rows vocab"], temperature: float) -> tuple[Int[Tensor, "rows"], Float[Tensor, "rows"]]:
    """Sample a token from each softmax(logits / temperature) and return it with its log-prob.

    Temperature 0 takes the most likely token, with its log-prob under softmax(logits).

    Raises:
        LogitsNotFinite: a row has no softmax.
    """
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / (temperature or 1.0)
    logprobs = scaled.log_softmax(dim=-1)
    # On a GPU, sampling from NaN ends the process.
    if not bool(logprobs.amax(dim=-1).isfinite().all()):
        raise LogitsNotFinite
    drawn = torch.multinomial(logprobs.exp(), 1) if temperature else logprobs.argmax(dim=-1, keepdim=True)
    return drawn.squeeze(1), logprobs.gather(1, drawn).squeeze(1)


def _worth_dropping(left: int, rows: int) -> bool:
    """Whether enough rows have finished. Dropping rows copies the cache, so it does not pay for one row of many."""
    return left <= rows - max(1, rows // 8)


class _Batch:
    """The unfinished rows and the model inputs that continue them."""

    def __init__(self, model: PreTrainedModel, ids: Int[Tensor, "rows tokens"], prepared: dict[str, Any]) -> None:
        self._model = model
        self._ids = self._unseen = ids
        self._prepared = prepared
        self._cache: Cache | None = None
        self._is_first = True

    def next_logits(self) -> Float[Tensor, "rows vocab"]:
        """Run the model on the tokens that it has not seen yet."""
        inputs = self._model.prepare_inputs_for_generation(  # type: ignore[operator]
            self._unseen, is_first_iteration=self._is_first, **self._prepared
        )
        outputs = self._model(**inputs, return_dict=True)
        self._prepared = self._model._update_model_kwargs_for_generation(outputs, self._prepared)  # type: ignore[operator]
        self._is_first = False
        # Not the prepared cache: some models ignore it, and others return theirs under another name.
        self._cache = next((value for value in outputs.values() if isinstance(value, Cache)), None)
        logits: Tensor = outputs.logits[:, -1]
        return logits

    def append(self, drawn: Int[Tensor, "rows"]) -> None:
        """Append one token to each row."""
        self._ids = torch.cat([self._ids, drawn.unsqueeze(1)], dim=1)
        # A model without a cache rereads the whole row.
        self._unseen = self._ids if self._cache is None else drawn.unsqueeze(1)

    def select(self, rows: Int[Tensor, "selected"]) -> None:
        """Continue with these rows. A row may be repeated."""
        num_rows = len(self._ids)
        self._ids, self._unseen = self._ids[rows], self._unseen[rows]
        for name in FIRST_DIMENSION_IS_ROWS:
            value = self._prepared.get(name)
            if value is not None and len(value) == num_rows:
                self._prepared[name] = value[rows]
        if self._cache is not None:
            self._cache.reorder_cache(cast(torch.LongTensor, rows))
