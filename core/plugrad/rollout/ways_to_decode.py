"""The ways in which the engine `transformers` can decode, and a trial that finds the first one that a model supports."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel

from plugrad.errors import EngineError
from plugrad.rollout.decoding import Decoding, LogitsNotFinite, draw
from plugrad.rollout.engine import Sampling

logger = logging.getLogger("plugrad")

BOUNDS = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Nats by which log-probs of the trial may differ on average from those of a whole forward pass, by dtype."""
BOUND_OF_16_BITS = 0.1
PROMPT_LENGTHS = (3, 6, 3)
SAMPLING = Sampling(num_completions=3, max_new_tokens=6, temperature=1.0, seed=0)


@dataclass(frozen=True)
class Rows:
    """What is decoded: prompts padded on the left, and the prompt of each completion."""

    input_ids: Int[Tensor, "prompts tokens"]
    attention_mask: Int[Tensor, "prompts tokens"]
    prompt_of_row: Sequence[int]


@dataclass(frozen=True)
class Ending:
    """What ends a completion, and what fills the rows of those that have ended."""

    stops: frozenset[int]
    pad: int


Decoded = tuple[Int[Tensor, "rows new"], Float[Tensor, "rows new"]]
Complete = Callable[[PreTrainedModel, Rows, Ending, Sampling], Decoded]


@dataclass(frozen=True)
class Way:
    """A way to decode."""

    complete: Complete
    """Returns the sampled tokens and their log-probs. Entries after a row's first stop token are undefined."""
    pads: bool
    """Whether prompts of different lengths are decoded together."""
    about: str
    """How it decodes, for a message; empty for the fastest."""


def own_loop(model: PreTrainedModel, rows: Rows, ending: Ending, sampling: Sampling, *, cached: bool = True) -> Decoded:
    """Decode with plugrad's own loop. Without a cache, each token costs a pass over its whole row."""
    decoded: Decoded = model.generate(  # type: ignore[operator]
        input_ids=rows.input_ids,
        attention_mask=rows.attention_mask,
        generation_config=GenerationConfig(
            max_new_tokens=sampling.max_new_tokens, pad_token_id=ending.pad, use_cache=cached
        ),
        custom_generate=Decoding(rows.prompt_of_row, ending.stops, sampling),
    )
    return decoded


def rereading_loop(model: PreTrainedModel, rows: Rows, ending: Ending, sampling: Sampling) -> Decoded:
    """Decode with plugrad's own loop without a cache."""
    return own_loop(model, rows, ending, sampling, cached=False)


def transformers_loop(model: PreTrainedModel, rows: Rows, ending: Ending, sampling: Sampling) -> Decoded:
    """Decode with the loop of Transformers' `generate`, for a cache that only the model itself can handle."""
    drawing, num_prompt_tokens = _Drawing(sampling.temperature), rows.input_ids.shape[1]
    chosen = list(rows.prompt_of_row)
    ids = model.generate(  # type: ignore[operator]
        input_ids=rows.input_ids[chosen],
        attention_mask=rows.attention_mask[chosen],
        generation_config=GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=ending.pad,
            eos_token_id=sorted(ending.stops),
            use_cache=True,
            do_sample=False,
        ),
        logits_processor=[drawing],
    )
    return ids[:, num_prompt_tokens:], torch.stack(drawing.logprobs, dim=1)


class _Drawing(LogitsProcessor):
    """Draws a token and leaves no other to choose from, so that `generate` takes it."""

    def __init__(self, temperature: float) -> None:
        self._temperature = temperature
        self.logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return 0 for the token that is drawn and minus infinity for all others."""
        drawn, logprobs = draw(scores, self._temperature)
        self.logprobs.append(logprobs.float())
        return torch.full_like(scores, -math.inf).scatter(1, drawn.unsqueeze(1), 0.0)


WAYS = (
    Way(own_loop, pads=True, about=""),
    Way(own_loop, pads=False, about="prompts of one length at a time, since padding on the left changes its results"),
    Way(transformers_loop, pads=False, about="with Transformers' own loop, prompts of one length at a time"),
    Way(rereading_loop, pads=False, about="without a cache, so that time grows with the square of the length"),
)
"""In the order of speed."""


@torch.no_grad()
def way_to_decode(model: PreTrainedModel, pad: int) -> Way:
    """Return the first way whose log-probs are those of whole forward passes, or the best one. The model is evaluating.

    Raises:
        EngineError: none works.
    """
    device, errors = model.device, []
    computes_in_16_bits = torch.finfo(model.dtype).bits <= 16 or torch.is_autocast_enabled(device.type)
    bound = BOUND_OF_16_BITS if computes_in_16_bits else BOUNDS[model.dtype]
    for way in WAYS:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(SAMPLING.seed)
            errors.append(_error(model, way, pad))
        if errors[-1] <= bound:
            if way.about:
                logger.info("%s is decoded %s.", type(model).__name__, way.about)
            return way
    if math.isinf(min(errors)):
        _refuse(model, pad)
    # Differences of one size are rounding, or the model's own: then speed decides.
    return next(way for way, error in zip(WAYS, errors, strict=True) if error <= 2 * min(errors))


def _refuse(model: PreTrainedModel, pad: int) -> None:
    """Raise what stops the way that asks least of a model. Weights that are NaN are said when something is sampled."""
    try:
        list(_errors(model, WAYS[-1], [[0, 1]], Ending(frozenset([0]), pad)))
    except LogitsNotFinite:
        pass
    except Exception as error:
        found = f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0]
        raise EngineError(
            f"{type(model).__name__} cannot be decoded in any way that the engine transformers knows: {found} Choose "
            "another model or another rollout.engine."
        ) from error


def _error(model: PreTrainedModel, way: Way, pad: int) -> float:
    """Return the mean difference, in nats, between a way's log-probs and those of whole passes; infinite if it fails."""
    vocab = model.config.get_text_config().vocab_size
    prompts = [[(11 * index + place) % vocab for place in range(length)] for index, length in enumerate(PROMPT_LENGTHS, 1)]
    # So many that some rows end early.
    ending = Ending(frozenset(range(0, vocab, 4)), pad)
    try:
        found = [error for batch in _batches(prompts, way) for error in _errors(model, way, batch, ending)]
    except Exception:
        # Whatever a cache raises that was not made for this.
        return math.inf
    mean = sum(found) / len(found)
    return math.inf if math.isnan(mean) else mean


def _batches(prompts: list[list[int]], way: Way) -> list[list[list[int]]]:
    by_length = [[prompt for prompt in prompts if len(prompt) == length] for length in sorted(set(map(len, prompts)))]
    return [prompts] if way.pads else by_length


def _errors(model: PreTrainedModel, way: Way, prompts: list[list[int]], ending: Ending) -> Iterable[float]:
    prompt_of_row = [number for number in range(len(prompts)) for _ in range(SAMPLING.num_completions)]
    ids, mask = left_padded(prompts, ending.pad, model.device)
    tokens, logprobs = way.complete(model, Rows(ids, mask, prompt_of_row), ending, SAMPLING)
    for number, row, theirs in zip(prompt_of_row, tokens.tolist(), logprobs.tolist(), strict=True):
        length = length_of(row, ending.stops)
        whole = torch.tensor([[*prompts[number], *row[:length]]], device=model.device)
        logits = model(input_ids=whole, attention_mask=torch.ones_like(whole), use_cache=False).logits[0]
        scores = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
        ours = scores[-length - 1 : -1].gather(1, whole[0, -length:].unsqueeze(1)).squeeze(1).tolist()
        yield from (abs(one - other) for one, other in zip(ours, theirs[:length], strict=True))


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return rows padded on the left, and their attention mask."""
    width = max(map(len, rows))
    ids = [[*[pad] * (width - len(row)), *row] for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def length_of(ids: Sequence[int], stops: frozenset[int]) -> int:
    """Return the length of a completion up to its first stop token."""
    return next((i + 1 for i, token in enumerate(ids) if token in stops), len(ids))
