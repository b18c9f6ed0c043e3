"""What a model's configuration describes, without its weights: read and checked once, for who asks before it loads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from plugrad.config.tables.model_table import ModelTable
from plugrad.errors import ModelError
from plugrad.policy.config_values import check_quantisation, check_values
from plugrad.policy.model_folder import (
    check_counts,
    check_files,
    check_name,
    is_folder,
    read_json,
    reading,
    tell_of_similar_folder,
    where_looked,
)
from plugrad.policy.quantised import quantisation_of

SAVE_AGAIN = "Copy or download it again, or save the model again with save_pretrained."


@dataclass(frozen=True)
class Source:
    """Where a model comes from, and how it is read."""

    name: str
    """A folder or a hub id."""
    dtype: str
    attn_implementation: str | None
    trusts_code: bool
    """Whether Python code in its folder may run."""
    table: str = "model"
    """The table of the run file that names it."""
    folders: Sequence[Path] = ()
    """Where a relative name was looked up."""
    quantisation: Any = None
    """How Transformers quantises its matrices, if it does."""


class Described(NamedTuple):
    """A model's configuration, and the model that it describes."""

    config: PreTrainedConfig
    plain: dict[str, Any]
    """What its file holds, if it is local."""
    model: PreTrainedModel | None
    """Without storage; None where it cannot be built so."""


def described(source: Source) -> Described:
    """Read a model's configuration.

    Raises:
        ModelError: it cannot be used.
    """
    config, plain = read_config(source)
    return Described(config, plain, without_storage(config, trusts_code=source.trusts_code))


def source_of(table: ModelTable, folders: Sequence[Path]) -> Source:
    """Return where the policy comes from."""
    assert table.name is not None
    return Source(
        table.name,
        table.dtype,
        table.attn_implementation,
        table.trust_remote_code,
        folders=folders,
        quantisation=quantisation_of(table),
    )


def read_config(source: Source) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """Return the configuration, and what its file holds if it is local.

    Raises:
        ModelError: it cannot be used.
    """
    name = source.name
    check_name(name, source.folders, source.table)
    check_files(name, source.table)
    is_local = is_folder(name)
    plain = read_json(Path(name) / "config.json", name) if is_local else {}
    check_counts(plain, f"config.json of the model {name!r}:")
    check_values(plain, f"config.json of the model {name!r}:")
    if not is_local:
        tell_of_similar_folder(name, source.folders)
    absent = f"There is no folder of that name{where_looked(name, source.folders)}"
    what = f"config.json of the model {name!r}" if is_local else f"the model {name!r}"
    with reading(what, SAVE_AGAIN if is_local else absent, source.table):
        config = AutoConfig.from_pretrained(name, trust_remote_code=source.trusts_code)
        without_dropout(config)
    check_quantisation(plain, name)
    has_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in AutoModelForCausalLM._model_mapping and not has_code:
        raise ModelError(
            f"the model {name!r} is a {config.model_type}, which has no causal LM in Transformers, so it cannot write text "
            "token by token. Choose a causal LM."
        )
    return config, plain


def without_storage(config: PreTrainedConfig, *, trusts_code: bool = False) -> PreTrainedModel | None:
    """Return the model that the configuration describes, without storage, or None where it cannot be built so."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(copy.deepcopy(config), trust_remote_code=trusts_code)
    except Exception:
        # Loading it says what is wrong. A few models compute while they are built, which needs storage.
        return None
    return cast(PreTrainedModel, model)


def without_dropout(config: Any) -> None:
    """Turn dropout off: the policy in training must be the policy that sampled."""
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            without_dropout(value)
        if isinstance(value, float) and ("dropout" in name or name.endswith("_pdrop")):
            setattr(config, name, 0.0)


def torch_dtype(name: str) -> torch.dtype | str:
    """Return the dtype of a name; "auto" as it is."""
    return name if name == "auto" else cast(torch.dtype, getattr(torch, name))
