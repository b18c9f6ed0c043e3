"""Find out what a model computes otherwise in training mode: dropout, noise in routers, layers that are skipped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from plugrad.policy.lm_head import device_of, evaluating, runnable_attention
from plugrad.policy.trial_results import agree, dtype_of, trial_ids

LENGTH = 12
"""Tokens of the trial."""


def noisy_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules, by name, whose training mode draws random numbers or gives other logits.

    Random numbers count even where they change nothing: a router may draw only for tokens that no trial contains. The model
    runs on a few tokens: twice if nothing is found, otherwise twice more and once for each class of module.
    """
    with torch.no_grad(), evaluating(model), runnable_attention(model), unchanged_buffers(model):
        wanted, _ = _run(model)
        if not _is_noisy(model, model.modules(), wanted):
            return {}
        named = dict(model.named_modules())
        of_class: dict[type, list[nn.Module]] = {}
        for module in named.values():
            of_class.setdefault(type(module), []).append(module)
        noisy = {kind for kind, modules in of_class.items() if _is_noisy(model, modules, wanted)}
        quiet = [module for module in named.values() if type(module) not in noisy]
        # Two classes may be noisy only together.
        found = noisy if noisy and not _is_noisy(model, quiet, wanted) else of_class.keys()
        return {name: module for name, module in named.items() if type(module) in found}


def keep_evaluating(model: nn.Module, names: Collection[str]) -> None:
    """Put the modules of these names, but not what is inside them, into evaluation mode."""
    for name in names:
        model.get_submodule(name).training = False


@contextmanager
def unchanged_buffers(model: nn.Module) -> Iterator[None]:
    """Restore the model's buffers: batch norms write into theirs in training mode."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in model.named_buffers():
            if name in kept and kept[name].shape == buffer.shape:
                buffer.copy_(kept[name])


def _is_noisy(model: nn.Module, training: Iterable[nn.Module], wanted: Tensor) -> bool:
    model.eval()
    for module in training:
        module.training = True
    found, draws = _run(model)
    return draws or not agree(found, wanted, dtype_of(model))


def _run(model: nn.Module) -> tuple[Tensor, bool]:
    """Return the logits of a few tokens, and whether random numbers were drawn for them."""
    ids = trial_ids(model, LENGTH).unsqueeze(0)
    device = device_of(model)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        before = _random_state(device)
        logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        return logits, not torch.equal(before, _random_state(device))


def _random_state(device: torch.device) -> Tensor:
    states = [torch.get_rng_state()]
    return torch.cat([*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states)
