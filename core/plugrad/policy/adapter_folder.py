"""An adapter on disk, in PEFT's format."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from plugrad.errors import ModelError
from plugrad.policy.adapter_layers import TRAINED, adapter_tensors
from plugrad.policy.lora_config import CONFIG, quiet_peft
from plugrad.policy.model_folder import reading
from plugrad.policy.weight_files import names

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""PEFT's, of a whole model."""


def save_adapter(model: PreTrainedModel, folder: Path, tensors: Mapping[str, Tensor], base: str | None) -> None:
    """Write an adapter that `peft.PeftModel.from_pretrained` reads.

    Args:
        model: it has the adapter.
        folder: it is made.
        tensors: the adapter's, whole, by their names in the model.
        base: where its base lies.
    """
    from peft.utils.save_and_load import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    with quiet_peft():
        found = get_peft_model_state_dict(model, dict(tensors), TRAINED, save_embedding_layers=False)
    plain = {f"{PREFIX}{name}": value.detach().cpu().contiguous() for name, value in found.items()}
    save_file(plain, folder / WEIGHTS, metadata={"format": "pt"})
    config: Any = copy.copy(model.peft_config[TRAINED])
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(str(folder))


def load_adapter(model: PreTrainedModel, folder: Path, base: str | None) -> None:
    """Read an adapter's weights into the model.

    Raises:
        ModelError: they are missing, damaged, not finite, or of another base.
    """
    from peft.utils.save_and_load import set_peft_model_state_dict

    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"the adapter {str(folder)!r} has no {WEIGHTS}. Save it with PEFT's save_pretrained.")
    with reading(f"{WEIGHTS} of the adapter {str(folder)!r}", "Copy it again.", "model.lora"):
        stored = load_file(folder / WEIGHTS)
    bad = sorted(name for name, value in stored.items() if not torch.isfinite(value).all())
    if bad:
        raise ModelError(f"{len(bad)} weights of the adapter {str(folder)!r} hold NaN or infinity: {names(bad)}.")
    remedy = f"model.name must be the base that the adapter was trained beside; {CONFIG} has its name."
    with reading(f"the adapter {str(folder)!r}", remedy, "model.lora"), quiet_peft():
        result: Any = set_peft_model_state_dict(model, stored, TRAINED)
    missing = sorted(set(result.missing_keys) & adapter_tensors(model).keys())
    unexpected = sorted(result.unexpected_keys)
    if missing or unexpected:
        found = [f"{len(missing)} are missing: {names(missing)}"] * bool(missing)
        found += [f"{len(unexpected)} belong nowhere: {names(unexpected)}"] * bool(unexpected)
        raise ModelError(f"the weights of the adapter {str(folder)!r} do not fit the model: {'; '.join(found)}. {remedy}")
