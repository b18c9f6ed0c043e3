"""A base whose matrices are stored in 4 bits (NF4), through bitsandbytes: QLoRA, arXiv:2305.14314."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from plugrad.config.run_file import RunFile
from plugrad.config.tables.model_table import ModelTable
from plugrad.errors import ModelError, RunFileError

PACKAGE = "bitsandbytes"


def check_quantised(run_file: RunFile) -> None:
    """Check, before a model loads, that the base can be quantised and that everything gets its weights.

    Raises:
        ModelError: bitsandbytes is not installed.
        RunFileError: the engine takes whole weights.
    """
    if run_file.model.quantization is None:
        return
    if find_spec(PACKAGE) is None:
        raise ModelError(
            f'model.quantization = "{run_file.model.quantization}" needs bitsandbytes, which is not installed: pip install '
            '"plugrad[qlora]". It has wheels for Linux, Windows and macOS. Or leave the key out: [model.lora] trains beside '
            "a base in bfloat16, too."
        )
    kind = run_file.rollout.engine_kind
    if kind.has_own_weights:
        raise RunFileError(
            f'model.quantization is "{run_file.model.quantization}" and rollout.engine "{kind.name}", which takes the '
            "adapter merged into whole weights: those of a quantised base are in 4 bits. Sample with the engine "
            "transformers, or leave the quantization out."
        )


def quantisation_of(table: ModelTable) -> Any:
    """Return what Transformers needs to know to quantise the base; None where it is not to be."""
    if table.quantization is None:
        return None
    computes_in = table.compute_dtype or table.dtype
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=table.quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if computes_in == "auto" else getattr(torch, computes_in),
    )


def quantising(quantisation: Any, name: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with which Transformers loads and quantises a model; none where it is not to be.

    Args:
        quantisation: from `quantisation_of`.
        name: of the model.
        plain: what its config.json holds, if it is local.

    Raises:
        ModelError: its weights are quantised already.
    """
    if quantisation is None:
        return {}
    if plain.get("quantization_config"):
        raise ModelError(
            f"the model {name!r} is quantised already (quantization_config in its config.json): leave out "
            "model.quantization, or name the model that it was made from."
        )
    return {"quantization_config": quantisation}
