"""Give a policy its adapter: new, or as a folder has it. Only the adapter is trained from then on."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from plugrad.config.tables.lora_table import LoraTable
from plugrad.errors import ModelError
from plugrad.policy.adapter_folder import load_adapter
from plugrad.policy.adapter_layers import INITIAL, TRAINED, adapter_layers
from plugrad.policy.lora_config import TABLE, lora_config, quiet_peft
from plugrad.policy.lora_targets import choose_targets
from plugrad.policy.model_folder import cause_of
from plugrad.policy.weight_sums import SumsBesideAdapter


@dataclass(frozen=True)
class Adapter:
    """The adapter of a policy."""

    config: Any
    """PEFT's."""
    base: str | None
    """The base's hub id or folder; None if no folder holds it, because it was built here or its embedding has grown."""
    starts_at_base: bool
    """Whether the policy with the new adapter is the base, in every bit."""
    sums: SumsBesideAdapter
    """Of what it is trained beside."""


def add_adapter(model: PreTrainedModel, table: LoraTable, base: str | None) -> Adapter:
    """Put the adapter into the model, and freeze the rest of it.

    Args:
        model: it is changed.
        table: the run file's.
        base: where the model lies.

    Raises:
        ModelError: PEFT or plugrad refuses an option or a layer, or the folder's adapter is another model's.
    """
    config = lora_config(table)
    choose_targets(model, config)
    _inject(model, config, TRAINED)
    if table.adapter is not None:
        load_adapter(model, Path(table.adapter), base)
    config.base_model_name_or_path = base
    return Adapter(config, base, table.adapter is None and table.init != "orthogonal", SumsBesideAdapter(model))


def keep_as_it_began(model: PreTrainedModel) -> None:
    """Give the model a second, frozen adapter with the values that the first has now, for `as_it_began`."""
    config = copy.deepcopy(model.peft_config[TRAINED])
    with torch.random.fork_rng():
        _inject(model, config, INITIAL)
    values = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in values.items():
            if f".{INITIAL}" in name:
                weight.copy_(values[name.replace(f".{INITIAL}", f".{TRAINED}")])
    for layer in adapter_layers(model).values():
        layer.set_adapter([TRAINED])
        layer.train(layer.training)


def _inject(model: PreTrainedModel, config: Any, name: str) -> None:
    from peft import inject_adapter_in_model
    from peft.tuners.tuners_utils import cast_adapter_dtype

    try:
        with quiet_peft():
            inject_adapter_in_model(config, model, name)
            # To float32 from 16 bits, as in PEFT's own models: small updates would be rounded away.
            cast_adapter_dtype(model, name)
    except Exception as error:
        raise ModelError(
            f"{TABLE}: PEFT cannot put this adapter into {type(model).__name__}: {cause_of(error)}. Change the options, or "
            "leave the table out."
        ) from error
    if getattr(config, "target_parameters", None):
        raise ModelError(
            f"{TABLE} target_modules: in {type(model).__name__} PEFT takes them for experts that are stored as one tensor "
            f"({', '.join(config.target_parameters)}), which get no adapter here. Choose linear layers."
        )
