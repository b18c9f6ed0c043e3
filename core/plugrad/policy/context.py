"""How many tokens a model takes, and why not more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel


@dataclass(frozen=True)
class Context:
    """The longest sequence that a model is trained on."""

    length: int | None
    """In tokens, or None if the configuration does not state it."""
    why: str = ""
    """Why the model is not trained on longer ones, where that is not plain."""


def context_of(model: PreTrainedModel) -> Context:
    """Return the model's context: what its configuration states, or up to where its rotary frequencies stay the same.

    LongRoPE and dynamic RoPE choose the frequencies of a whole forward pass by its longest position. Up to the boundary
    they are constant. Beyond it, they would depend on neighbours in a micro-batch, and tokens sampled before a sequence
    crosses it would be scored with other frequencies than those they were sampled with.
    """
    config = model.config.get_text_config()
    stated = getattr(config, "max_position_embeddings", None)
    for kind, boundary in _boundaries(config):
        if stated is None or boundary <= stated:
            return Context(
                boundary,
                f"The model ({config.model_type}) switches to other rotary frequencies where a row of a forward pass has "
                f"more than {boundary} tokens (rope_type {kind!r}): beyond, what samples would not be what is trained, and "
                f"results would depend on neighbours. So prompt and completion may have {boundary} tokens together.",
            )
    return Context(stated)


def _boundaries(config: Any) -> Iterator[tuple[str, int]]:
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    # Some models have parameters for each type of layer.
    for parameters in (rope, *rope.values()):
        kind = (parameters.get("rope_type") or parameters.get("type") or "") if isinstance(parameters, Mapping) else ""
        boundary = _boundary(kind, parameters, config)
        if boundary is not None:
            yield kind, int(boundary)


def _boundary(kind: str, parameters: Mapping[str, Any], config: Any) -> int | None:
    stated = getattr(config, "max_position_embeddings", None)
    if kind == "longrope":
        original = "original_max_position_embeddings"
        return getattr(config, original, None) or parameters.get(original) or stated
    return stated if "dynamic" in kind else None
