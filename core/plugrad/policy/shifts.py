"""Shifts of a model's input embeddings: added while it runs, and refused where that is not exact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plugrad.errors import ModelError
from plugrad.policy.lm_head import runnable_attention
from plugrad.policy.training_mode import unchanged_buffers
from plugrad.policy.trial_results import trial_ids

LENGTH = 6
"""Tokens of the trial."""


class Shift(NamedTuple):
    """What a pass adds to the embeddings of the tokens."""

    by: Float[Tensor, "batch seq hidden"]
    earlier: Float[Tensor, ""] | None = None
    """0 with the graph of the passes before: DDP looks in the last one's for parameters without a gradient."""


def embedding_of(model: nn.Module) -> nn.Module:
    """Return the module that embeds tokens. Its output is what is shifted, before any factor that follows.

    Raises:
        ModelError: the model names none.
    """
    get: Any = getattr(model, "get_input_embeddings", None)
    try:
        found = get()
    except (TypeError, NotImplementedError, AttributeError):
        found = None
    if not isinstance(found, nn.Module) or not isinstance(getattr(found, "weight", None), Tensor):
        raise _refused(model, "does not name the module that embeds its tokens")
    return found


def width_of(model: nn.Module) -> int:
    """Return the number of numbers in the embedding of a token."""
    weight: Any = embedding_of(model).weight
    return int(weight.shape[-1])


@contextmanager
def shifted(model: nn.Module, by: Float[Tensor, "batch seq hidden"] | None) -> Iterator[list[nn.Module]]:
    """While the body runs, add `by` to the embeddings, in the layout in which the model gets its tokens.

    Yields a list with an entry for each time that they were computed.
    """
    calls: list[nn.Module] = []
    if by is None:
        yield calls
        return

    def add(embedding: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        calls.append(embedding)
        return output + by.to(output.dtype)

    hook = embedding_of(model).register_forward_hook(add)
    try:
        yield calls
    finally:
        hook.remove()


def check_shifts(model: nn.Module) -> None:
    """Check in a trial with a few tokens that the model embeds them once, and that its logits depend on that.

    Raises:
        ModelError: it does not, so that the derivative would be that of something else.
    """
    ids = trial_ids(model, LENGTH).unsqueeze(0)
    weight: Any = embedding_of(model).weight
    by = torch.zeros(1, LENGTH, width_of(model), dtype=weight.dtype, device=ids.device, requires_grad=True)
    mode = model.training
    # Gradient checkpointing, which may run the embedding again, works in training mode alone.
    model.train()
    try:
        with torch.enable_grad(), runnable_attention(model), unchanged_buffers(model), shifted(model, by) as calls:
            logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            (found,) = torch.autograd.grad(logits.float().logsumexp(-1).sum(), by, allow_unused=True)
    except RuntimeError as error:
        raise _refused(model, f"cannot add to them: {error}") from error
    finally:
        model.train(mode)
    if len(calls) != 1:
        raise _refused(model, f"embeds the tokens {len(calls)} times in a forward and a backward pass, and not once")
    if found is None or not bool(found.any()):
        raise _refused(model, "has logits that do not depend on them")


def _refused(model: nn.Module, why: str) -> ModelError:
    return ModelError(
        f"A loss needs again, which adds to the input embeddings, and {type(model).__name__} {why}. Choose another model or "
        "another loss."
    )
