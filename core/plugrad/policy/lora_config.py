"""PEFT's configuration of an adapter: made from `[model.lora]`, or read from the adapter's folder and compared with it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from plugrad.config.tables.lora_table import LoraTable
from plugrad.errors import ModelError, did_you_mean
from plugrad.policy.model_folder import cause_of, read_json
from plugrad.shown import shown

TABLE = "[model.lora]"
CONFIG = "adapter_config.json"
KEYS = {
    "r": "r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "target_modules": "target_modules",
    "init": "init_lora_weights",
    "rslora": "use_rslora",
    "dora": "use_dora",
}
"""PEFT's names of the table's keys."""
PLAIN_INITS = (True, "gaussian", "orthogonal")
OF_BASE = "it trains or replaces weights of the base, which the reference, checkpoints and engines take to be fixed"
OF_INIT = f"it belongs to a way to begin that rewrites the base: {OF_BASE}"
NOT_LINEAR = "the matrices that it adapts or makes cannot be merged one at a time, as engines get them"
OF_PLUGRAD = "plugrad sets it"
REFUSED = {
    **dict.fromkeys(("bias", "modules_to_save", "trainable_token_indices", "layer_replication"), OF_BASE),
    **dict.fromkeys(("loftq_config", "eva_config", "corda_config", "lora_ga_config", "kasa_config"), OF_INIT),
    **dict.fromkeys(("target_parameters", "lora_bias", "use_bdlora", "arrow_config", "ensure_weight_tying"), NOT_LINEAR),
    **dict.fromkeys(("use_qalora", "qalora_group_size"), NOT_LINEAR),
    **dict.fromkeys(("velora_config", "monteclora_config"), "it changes the gradient or draws random matrices"),
    "alora_invocation_tokens": "its adapter acts only after certain tokens, and cannot be merged",
    **dict.fromkeys(("megatron_config", "megatron_core", "runtime_config"), "it is for other trainers"),
    **dict.fromkeys(("task_type", "peft_type", "base_model_name_or_path", "inference_mode"), OF_PLUGRAD),
    **dict.fromkeys(("auto_mapping", "peft_version", "revision"), OF_PLUGRAD),
}
"""Options that would make something else of the run than its numbers say, and why."""


def check_lora(table: LoraTable | None) -> Any:
    """Check, before a model is loaded, that PEFT is there and takes the options. Return what it makes of them.

    Raises:
        ModelError: it does not.
    """
    return None if table is None else lora_config(table)


def lora_config(table: LoraTable) -> Any:
    """Return PEFT's `LoraConfig` for a table.

    Raises:
        ModelError: PEFT is not installed, an option is misspelt or refused, or the folder's adapter is another one.
    """
    if find_spec("peft") is None:
        raise ModelError(
            f'{TABLE} needs the package peft, which is not installed: pip install "plugrad[lora]" (from a clone: '
            '".[lora]"). Or leave the table out, to train all weights.'
        )
    _check_further(table.kwargs)
    return _new_config(table) if table.adapter is None else _config_in(table)


def _new_config(table: LoraTable) -> Any:
    r = table.r or 16
    given = {
        "r": r,
        "lora_alpha": table.alpha or 2 * r,
        "lora_dropout": table.dropout or 0.0,
        "target_modules": table.target_modules,
        "init_lora_weights": True if table.init in (None, "default") else table.init,
        "use_rslora": bool(table.rslora),
        "use_dora": bool(table.dora),
    }
    if table.init == "orthogonal" and r % 2:
        raise ModelError(f'{TABLE} init = "orthogonal" needs an even r, and r is {r}. Set it to {r + 1}.')
    return _made({**given, **table.kwargs}, TABLE)


def _config_in(table: LoraTable) -> Any:
    assert table.adapter is not None
    folder = Path(table.adapter)
    if not (folder / CONFIG).is_file():
        found = "holds no adapter: it has no adapter_config.json" if folder.is_dir() else "is no folder"
        raise ModelError(
            f"{TABLE} adapter = {shown(table.adapter)} {found}. Give a folder in PEFT's format, such as `model` of a run "
            f"with {TABLE}."
        )
    fields = read_json(folder / CONFIG, table.adapter)
    where = f"{CONFIG} of the adapter {table.adapter!r}"
    if fields.get("peft_type") != "LORA":
        raise ModelError(f"{where} has peft_type = {shown(fields.get('peft_type'))}: only LORA can be trained further.")
    known = _fields()
    config = _made({name: value for name, value in fields.items() if name in known}, where)
    for name, why in REFUSED.items():
        if why is not OF_PLUGRAD and name in known and getattr(config, name) != _default(known[name]):
            raise ModelError(f"{where} has {name} = {shown(getattr(config, name))}, which plugrad refuses: {why}.")
    if config.init_lora_weights not in (*PLAIN_INITS, False):
        raise ModelError(
            f"{where} has init_lora_weights = {shown(config.init_lora_weights)}, which rewrote the base when the adapter "
            "began. Let PEFT save it as an adapter of the base itself (path_initial_model_for_weight_conversion)."
        )
    _check_same(table, config, where)
    config.inference_mode = False
    return config


def _check_same(table: LoraTable, config: Any, where: str) -> None:
    asked = {key: getattr(table, key) for key in KEYS if key != "init" and getattr(table, key) is not None}
    given = {**{key: (KEYS[key], value) for key, value in asked.items()}, **{k: (k, v) for k, v in table.kwargs.items()}}
    for key, (name, value) in given.items():
        found = getattr(config, name)
        if _plain(found) != _plain(value):
            shown_found = sorted(found) if isinstance(found, set) else found
            raise ModelError(
                f"{TABLE} {key} is {shown(value)}, but {where} has {name} = {shown(shown_found)}. An adapter goes on as it "
                f"is: leave {key} out, or leave `adapter` out to begin a new one."
            )
    if table.init is not None:
        raise ModelError(f"{TABLE} init is for a new adapter, and `adapter` names one to go on from. Leave one of them out.")


def _check_further(kwargs: Mapping[str, Any]) -> None:
    known = _fields()
    ours = {theirs: key for key, theirs in KEYS.items()}
    for name in kwargs:
        if name in ours:
            raise ModelError(f"{TABLE} kwargs has {name!r}. Write it as {ours[name]} in {TABLE}.")
        if name not in known:
            raise ModelError(
                f"{TABLE} kwargs has {shown(name)}, which is no option of PEFT's LoraConfig."
                f"{did_you_mean(name, [*known, *KEYS])} See its documentation for what there is."
            )
        if name in REFUSED:
            raise ModelError(f"{TABLE} kwargs has {name!r}, which plugrad refuses: {REFUSED[name]}. Leave it out.")


def _made(fields: Mapping[str, Any], where: str) -> Any:
    from peft import LoraConfig, TaskType

    try:
        with quiet_peft():
            return LoraConfig(**{**fields, "task_type": TaskType.CAUSAL_LM})
    except Exception as error:
        raise ModelError(f"{where} is no configuration that PEFT takes: {cause_of(error)}. Correct it.") from error


def _fields() -> dict[str, dataclasses.Field[Any]]:
    from peft import LoraConfig

    return {field.name: field for field in dataclasses.fields(LoraConfig)}


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, list | set | tuple) else value


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence PEFT's advice: plugrad checks, and says it in its own words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
