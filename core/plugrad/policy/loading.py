"""Load the policy, the reference and the teacher: one door, which refuses what is damaged, unsafe or cannot be trained."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from plugrad.config.tables.model_table import ModelTable
from plugrad.errors import ModelError
from plugrad.policy.character_tokenizer import character_tokenizer
from plugrad.policy.described_model import (
    SAVE_AGAIN,
    Described,
    Source,
    described,
    read_config,
    source_of,
    torch_dtype,
    without_dropout,
)
from plugrad.policy.from_scratch import build
from plugrad.policy.lora import Adapter, add_adapter
from plugrad.policy.model_folder import (
    check_tokenizer_files,
    reading,
)
from plugrad.policy.quantised import quantising
from plugrad.policy.vocabulary import check_stops, fit_embeddings, num_rows
from plugrad.policy.weight_files import integers_in, num_numbers, stored_weights
from plugrad.policy.weights_check import check_finite, check_loaded, check_size, check_stored_types, check_trainable_dtype

ADD_TOKENIZER = "Save one next to the model with tokenizer.savepretrained(folder)."


@dataclass(frozen=True)
class LoadedModel:
    """A model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    has_grown: bool = False
    """Whether its embedding has more rows than in its folder."""
    adapter: Adapter | None = None
    """What is trained of it, if not all."""


def load_model(
    table: ModelTable, texts: Iterable[str], folders: Sequence[Path] = (), known: Described | None = None
) -> LoadedModel:
    """Load the policy, or build it from scratch with a character tokenizer made from `texts`.

    Dropout is off: the policy in training must be the policy that sampled.

    Args:
        table: the run file's.
        texts: the prompts and references of the run.
        folders: where a relative name was looked up, for messages.
        known: its configuration, if it has been read.

    Raises:
        ModelError: the model does not exist, or its configuration, weights or tokenizer cannot be used.
    """
    if table.from_scratch is not None:
        dtype = torch_dtype(table.dtype)
        loaded = LoadedModel(*build(table.from_scratch, texts, dtype, table.attn_implementation, without_dropout))
    else:
        loaded = _load_policy(table, texts, folders, known)
    # Engines rebuild the model from its configuration, which lacks the architecture if it was built here.
    loaded.model.config.architectures = [type(loaded.model).__name__]
    if table.gradient_checkpointing:
        checkpoint_activations(loaded.model)
    if table.lora is None:
        return loaded
    base = None if loaded.has_grown else table.name
    return replace(loaded, adapter=add_adapter(loaded.model, table.lora, base))


def load_tokenizer(
    table: ModelTable, texts: Iterable[str], folders: Sequence[Path] = ()
) -> tuple[PreTrainedTokenizerBase, int]:
    """Load the policy's tokenizer, or make the character tokenizer of `texts`. Return it with the number of logits.

    Raises:
        ModelError: the model's configuration or its tokenizer cannot be used.
    """
    if table.name is None:
        tokenizer: PreTrainedTokenizerBase = character_tokenizer(texts)
        stated: object = (table.from_scratch or {}).get("vocab_size")
    else:
        source = source_of(table, folders)
        config, _ = read_config(source)
        tokenizer, stated = read_tokenizer(source), getattr(config.get_text_config(), "vocab_size", None)
    return tokenizer, max(len(tokenizer), stated if isinstance(stated, int) else 0)


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Let a model recompute its activations in the backward pass.

    Raises:
        ModelError: it cannot.
    """
    if not model.supports_gradient_checkpointing:
        raise ModelError(
            f"model.gradient_checkpointing is true, but {type(model).__name__} has none in Transformers. "
            "Set it to false, and lower tokens_per_micro_batch if memory is short."
        )
    # Transformers 5 renames the method, and 6 drops the old name.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _load_policy(table: ModelTable, texts: Iterable[str], folders: Sequence[Path], known: Described | None) -> LoadedModel:
    source = source_of(table, folders)
    model = pretrained(source, known)
    check_trainable_dtype(source.name, model)
    tokenizer = read_tokenizer(source)
    rows = num_rows(model)
    fit_embeddings(source.name, model, tokenizer, texts=texts, resize=table.resize_embeddings)
    check_stops(source.name, model)
    return LoadedModel(model, tokenizer, has_grown=num_rows(model) > rows)


def pretrained(source: Source, known: Described | None = None) -> PreTrainedModel:
    """Read configuration, unless it is known, weights and generation configuration.

    Raises:
        ModelError: one of them cannot be used.
    """
    name, dtype = source.name, torch_dtype(source.dtype)
    config, plain, empty = known or described(source)
    stored = stored_weights(name, plain)
    if empty is not None and stored is not None:
        check_size(name, empty, num_numbers(stored))
    what = f"config.json of the model {name!r}" if empty is None else f"the model {name!r}"
    with reading(what, SAVE_AGAIN, source.table), _without_report():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            dtype=dtype,
            attn_implementation=source.attn_implementation,
            trust_remote_code=source.trusts_code,
            # Checked below, with a message that lists them.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **quantising(source.quantisation, name, plain),
        )
    model, info = loaded
    check_loaded(name, model, info)
    check_stored_types(name, model, integers_in(stored or {}))
    check_finite(name, model)
    return cast(PreTrainedModel, model)


def read_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a model, and let it pad.

    Raises:
        ModelError: it cannot be used.
    """
    name = source.name
    check_tokenizer_files(name)
    with reading(f"the tokenizer of {name!r}", ADD_TOKENIZER, source.table):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=source.trusts_code)
        # Some damage shows only when a text goes through.
        tokenizer.decode(tokenizer("0 a")["input_ids"])
        special = {key: getattr(tokenizer, f"{key}_id") for key in ("eos_token", "pad_token")}
        len(tokenizer.get_vocab())
    for key, token in special.items():
        if token is not None and type(token) is not int:
            raise ModelError(
                f"the {key} of the tokenizer of {name!r} is not one token: its id is {token!r}. {ADD_TOKENIZER}"
            )
    if special["eos_token"] is None:
        raise ModelError(
            f"the tokenizer of {name!r} has no end-of-sequence token, so completions cannot end. Set its eos_token."
        )
    if special["pad_token"] is None:
        tokenizer.pad_token = tokenizer.eos_token
    return cast(PreTrainedTokenizerBase, tokenizer)


@contextmanager
def _without_report() -> Iterator[None]:
    """Silence Transformers' table of weights that did not load: `check_loaded` says it in a sentence."""
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(_is_no_report)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_report)


def _is_no_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


def quiet_transformers() -> None:
    """Silence Transformers' progress bars and advice, but not its warnings."""
    transformers_logging.set_verbosity_warning()
    transformers_logging.disable_progress_bar()
