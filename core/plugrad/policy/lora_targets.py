"""The layers that an adapter is put around: found, and refused where plugrad could not keep its promises."""

from __future__ import annotations

import logging
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from plugrad.errors import ModelError
from plugrad.policy.lora_config import TABLE
from plugrad.shown import shown

logger = logging.getLogger("plugrad")

LISTED = 12
LIMITS = ("exclude_modules", "layers_to_transform", "layers_pattern")
"""PEFT's options that leave layers out."""


def choose_targets(model: PreTrainedModel, config: Any) -> None:
    """Give a configuration without targets all linear layers but the head, and check those of another.

    Raises:
        ModelError: a target matches nothing, the head, or an embedding that is tied to it.
    """
    if config.target_modules is None or config.target_modules == "all-linear":
        config.target_modules = set(_default_targets(model))
    if not config.target_modules:
        raise ModelError(f"{TABLE} target_modules is empty. Leave it out for all linear layers but the head.")
    names = [name for name, _ in model.named_modules() if name]
    listed = [] if isinstance(config.target_modules, str) else sorted(config.target_modules)
    unmatched = [target for target in listed if not any(_ends_with(name, target) for name in names)]
    adapted = _adapted(model, config)
    if unmatched or not adapted:
        asked = ", ".join(map(repr, unmatched)) if unmatched else repr(config.target_modules)
        limits = "" if unmatched else _limits(config)
        raise ModelError(
            f"{TABLE} target_modules: nothing in the model ({type(model).__name__}) is called {asked}{limits}. Its linear "
            f"layers are {_linear_layers(model)}."
        )
    _check_each(model, adapted)
    _say_what_has_none(model)


def _adapted(model: PreTrainedModel, config: Any) -> list[str]:
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    try:
        matches = {name: check_target_module_exists(config, name) for name, _ in model.named_modules() if name}
    # PEFT checks neither patterns nor the types of its options.
    except Exception as error:
        options = ("target_modules", *LIMITS)
        given = ", ".join(f"{name} = {shown(getattr(config, name))}" for name in options if getattr(config, name, None))
        raise ModelError(
            f"{TABLE}: PEFT cannot tell which layers are meant by {given} ({type(error).__name__}: {error}). Give names of "
            "layers, a regular expression, or numbers of layers, as PEFT documents them."
        ) from error
    return [name for name, match in matches.items() if match and not isinstance(match, _ExcludedModule)]


def _check_each(model: PreTrainedModel, adapted: list[str]) -> None:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and getattr(head, "weight", None) is getattr(embedding, "weight", None)
    for name in adapted:
        module = model.get_submodule(name)
        if module is head:
            raise ModelError(
                f"{TABLE} target_modules includes {name!r}, the head. It gets no adapter: log-probs are computed from its "
                "matrix block by block, so that logits of the whole vocabulary never exist at once. Leave it out."
            )
        if module is embedding and tied:
            raise ModelError(
                f"{TABLE} target_modules includes {name!r}, whose matrix is the head's too (tie_word_embeddings). An "
                "adapter would change one of the two and untie them. Leave it out."
            )
        if not isinstance(module, nn.Linear | Conv1D | nn.Embedding):
            raise ModelError(
                f"{TABLE} target_modules includes {name!r}, a {type(module).__name__}: only linear layers and embeddings "
                f"get adapters. The linear layers are {_linear_layers(model)}."
            )


def _default_targets(model: PreTrainedModel) -> list[str]:
    """Return the last parts of the names of all linear layers but the head, or whole names where others end so, too."""
    head = model.get_output_embeddings()
    modules = dict(model.named_modules())
    linear = {name for name, module in modules.items() if isinstance(module, nn.Linear | Conv1D) and module is not head}
    ends = {name.rpartition(".")[2] for name in linear}
    shared = {end for end in ends if any(_ends_with(name, end) for name in modules.keys() - linear)}
    if not linear:
        raise ModelError(
            f"{TABLE}: {type(model).__name__} has no linear layers but its head. Train all of it: leave the table out."
        )
    return sorted({*(ends - shared), *(name for name in linear if name.rpartition(".")[2] in shared)})


def _say_what_has_none(model: PreTrainedModel) -> None:
    fused = sorted({type(module).__name__ for module in model.modules() if _has_tensor(module)})
    if fused:
        logger.info(
            "The matrices in the model's %s are no linear layers and get no adapter: experts that are stored as one tensor "
            "stay as they are.",
            ", ".join(fused),
        )


def _has_tensor(module: nn.Module) -> bool:
    return "Conv" not in type(module).__name__ and any(weight.ndim > 2 for weight in module.parameters(recurse=False))


def _limits(config: Any) -> str:
    given = [f"{name} = {getattr(config, name)!r}" for name in LIMITS if getattr(config, name, None)]
    return f" and allowed by {' and '.join(given)}" if given else ""


def _linear_layers(model: PreTrainedModel) -> str:
    ends: dict[str, str] = {}
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not head:
            ends.setdefault(name.rpartition(".")[2], name)
    listed = [f"{end} (such as {name})" for end, name in list(ends.items())[:LISTED]]
    return ", ".join(listed) + ("" if len(ends) <= LISTED else f" and {len(ends) - LISTED} others")


def _ends_with(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
