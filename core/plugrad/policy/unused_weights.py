"""Tell weights that a model ought to use from what other checkpoints leave behind: without them it is another model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

OF_PREDICTION = re.compile(r"(^|\.)(eh_proj|e_proj|h_proj|enorm|hnorm|shared_head|mtp\w*|nextn\w*)(\.|$)")
"""Parts of a layer that predicts a later token (DeepSeek-V3, arXiv:2412.19437, section 2.2). Transformers has none."""
OF_OTHER_INPUTS = re.compile(r"(^|[._])(vision|visual|vit|image|audio|speech|video|talker)")


@dataclass(frozen=True)
class Unused:
    """Weights in a model's files that belong to it, and that it does not use."""

    more_layers: list[str]
    """Of layers beyond its last."""
    num_layers: int
    """How many layers the configuration asks for, where there are more."""
    num_stored_layers: int
    """How many the files hold."""
    parts: list[str]
    """Of layers or matrices that it has."""


def unused_parts(model: PreTrainedModel, unexpected: Iterable[str]) -> Unused:
    """Return those of the unexpected weights that are the model's own.

    Buffers, quantised scales, whatever Transformers lists as to be ignored, layers that predict later tokens, and parts for
    other inputs than text are leftovers.
    """
    found = [name for name in unexpected if not OF_OTHER_INPUTS.search(name)]
    lists = {
        name: len(module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and not re.search(r"\.\d+\.", name) and not OF_OTHER_INPUTS.search(name)
    }
    used = {parameter for parameter, _ in model.named_parameters()}
    # A checkpoint of the model without its head has no prefix.
    used |= {parameter.removeprefix(f"{model.base_model_prefix}.") for parameter in used}
    more, parts, num_layers, num_stored = [], [], 0, 0
    for name in found:
        layers, index = _place(name, lists, model.base_model_prefix)
        if layers is None:
            parts += [name] * _is_bias(name, used)
        elif index < lists[layers]:
            parts += [name] * (name.endswith(".weight") or _is_bias(name, {*used, *found}))
        elif not _predicts(name, index, lists[layers], found, model):
            more.append(name)
            num_layers, num_stored = lists[layers], max(num_stored, index + 1)
    return Unused(more, num_layers, num_stored, parts)


def key_of_layers(model: PreTrainedModel, num_layers: int) -> str:
    """Return the key of config.json that holds the number of layers."""
    config: Any = model.config.get_text_config()
    key = (getattr(config, "attribute_map", None) or {}).get("num_hidden_layers", "num_hidden_layers")
    if getattr(config, key, None) == num_layers:
        return str(key)
    return next((name for name, value in vars(config).items() if "layers" in name and value == num_layers), str(key))


def _place(name: str, lists: Mapping[str, int], prefix: str) -> tuple[str | None, int]:
    """Return the list of layers that a name belongs to, and its index there."""
    for layers in lists:
        # A checkpoint of the model without its head has no prefix.
        for start in (layers, layers.removeprefix(f"{prefix}.")):
            match = re.match(rf"{re.escape(start)}\.(\d+)\.", name)
            if match:
                return layers, int(match[1])
    return None, 0


def _predicts(name: str, index: int, num_layers: int, found: Collection[str], model: PreTrainedModel) -> bool:
    layer = name[: name.index(f".{index}.")] + f".{index}."
    extra = getattr(model.config.get_text_config(), "num_nextn_predict_layers", None)
    return index < num_layers + (extra if isinstance(extra, int) else 0) or any(
        other.startswith(layer) and OF_PREDICTION.search(other) for other in found
    )


def _is_bias(name: str, weights: Collection[str]) -> bool:
    """Return whether a name is the bias of a matrix or norm. A buffer, such as a causal mask, can be called `bias` too."""
    module, _, leaf = name.rpartition(".")
    return leaf == "bias" and f"{module}.weight" in weights
