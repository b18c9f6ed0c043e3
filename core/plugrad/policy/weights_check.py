"""Check the weights of a loaded model: none invented by the loader, all finite, in a data type that can be trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from plugrad.errors import ModelError, counted
from plugrad.policy.unused_weights import key_of_layers, unused_parts
from plugrad.policy.weight_files import names

logger = logging.getLogger("plugrad")

NOT_THE_SAME = "Check config.json, or save the whole model again with model.save_pretrained(folder)."
LARGEST_EXCESS, MANY = 10, 10**8
"""A configuration that describes so many times more weights than are stored is damaged. Many are not even allocated."""


def check_size(name: str, model: PreTrainedModel, num_stored: int) -> None:
    """Check, on a model without storage, that its files can hold about as many weights as it has.

    Raises:
        ModelError: config.json describes another size.
    """
    # Quantised weights are packed.
    if getattr(model.config, "quantization_config", None) is not None:
        return
    wanted = sum(parameter.numel() for parameter in model.parameters())
    if wanted > max(LARGEST_EXCESS * num_stored, MANY):
        raise ModelError(
            f"config.json of the model {name!r} describes a {type(model).__name__} of {wanted} weights, but its files hold "
            f"{num_stored}. {NOT_THE_SAME}"
        )


def check_loaded(name: str, model: PreTrainedModel, info: Mapping[str, Any]) -> None:
    """Check that every weight of the model came from its files.

    Tied weights, and those that the class always recreates, are not in `info`. Leftovers, such as the weights of a vision
    tower, are noted.

    Args:
        name: of the model.
        model: the loaded model.
        info: Transformers' `output_loading_info`.

    Raises:
        ModelError: some are missing or have another shape, or the files hold more layers than the configuration asks for, or
            other parts of its layers. It lists them.
    """
    missing, unused = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    mismatched = [
        f"{key} has the shape {list(found)} where {list(wanted)} is needed"
        for key, found, wanted in sorted(info["mismatched_keys"])
    ]
    kind, architectures = type(model).__name__, getattr(model.config, "architectures", None) or []
    saved_as = (
        "" if kind in architectures else f" It was saved as {names(list(map(str, architectures)))}." * bool(architectures)
    )
    if missing or mismatched:
        found = [f"{len(missing)} {_verb(missing, 'is', 'are')} missing: {names(missing)}"] * bool(missing)
        found += [f"{len(mismatched)} {_verb(mismatched, 'does', 'do')} not fit: {names(mismatched)}"] * bool(mismatched)
        found += [f"{len(unused)} {_verb(unused, 'belongs', 'belong')} nowhere: {names(unused)}"] * bool(unused)
        raise ModelError(
            f"the weights of the model {name!r} are not those of a {kind}, so parts of it would be random: "
            f"{'; '.join(found)}.{saved_as} {NOT_THE_SAME}"
        )
    if unused:
        _check_unused(name, model, unused)
        logger.warning(
            f"{counted(len(unused), 'weight')} of the model {name!r} {_verb(unused, 'has', 'have')} no place in a {kind} "
            f"and {_verb(unused, 'is', 'are')} not used: {names(unused)}.{saved_as}"
        )


def _check_unused(name: str, model: PreTrainedModel, unexpected: list[str]) -> None:
    # Quantised weights have companions of many names.
    if getattr(model.config, "quantization_config", None) is not None:
        return
    unused = unused_parts(model, unexpected)
    drop = "If they are left over on purpose, load and save the model with Transformers, which drops them."
    if unused.more_layers:
        key = key_of_layers(model, unused.num_layers)
        raise ModelError(
            f"the files of the model {name!r} hold {unused.num_stored_layers} layers, and config.json asks for "
            f"{unused.num_layers}, so {counted(len(unused.more_layers), 'weight')} would be left out: "
            f"{names(unused.more_layers)}. Set {key} = {unused.num_stored_layers} in config.json. {drop}"
        )
    if unused.parts:
        raise ModelError(
            f"the files of the model {name!r} hold {counted(len(unused.parts), 'weight')} of its layers that a "
            f"{type(model).__name__} as in config.json does not have, so it would be another model than was saved: "
            f"{names(unused.parts)}. {NOT_THE_SAME} {drop}"
        )


def _verb(things: list[str], of_one: str, of_many: str) -> str:
    return of_one if len(things) == 1 else of_many


def check_stored_types(name: str, model: PreTrainedModel, integers: Mapping[str, str]) -> None:
    """Check that the weights are stored as floating-point numbers. Others would be converted without a word.

    Args:
        name: of the model.
        model: the loaded model.
        integers: the tensors in its files that hold integers, with their types. Masks and positions may.

    Raises:
        ModelError: a parameter is among them.
    """
    # Quantised weights are integers, with scales beside them.
    if not integers or getattr(model.config, "quantization_config", None) is not None:
        return
    parameters = {key for key, weight in model.named_parameters() if weight.is_floating_point()}
    prefix = model.base_model_prefix
    bad = [f"{key} ({kind})" for key, kind in integers.items() if not parameters.isdisjoint((key, f"{prefix}.{key}"))]
    if bad:
        raise ModelError(
            f"{counted(len(bad), 'weight')} of the model {name!r} {_verb(bad, 'is', 'are')} stored as integers: {names(bad)}"
            ". The file is damaged, or quantised without a quantization_config in config.json. Copy or download it again."
        )


def check_finite(name: str, model: PreTrainedModel) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        ModelError: naming those that are.
    """
    bad = [key for key, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if bad:
        raise ModelError(
            f"{len(bad)} weights of the model {name!r} hold NaN or infinity: {names(bad)}. Nothing can be trained from "
            "them. Use an earlier checkpoint, or another model.dtype if the file itself is sound."
        )


def check_trainable_dtype(name: str, model: PreTrainedModel) -> None:
    """Check that the optimizer can work on the weights.

    Raises:
        ModelError: some are float16.
    """
    if any(parameter.dtype == torch.float16 for parameter in model.parameters()):
        raise ModelError(
            f"the weights of the model {name!r} are float16, in which a policy diverges: the squared gradients that Adam "
            'keeps fall below float16\'s smallest number, and the steps explode. Set model.dtype = "float32" or "bfloat16"; '
            "both load such a folder."
        )
