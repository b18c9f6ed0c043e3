"""Check that the embedding has a row for each token that a run can meet, and extend it if the run file says so."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plugrad.errors import ModelError
from plugrad.policy.weight_files import names

logger = logging.getLogger("plugrad")


MOST_GAPS = 10
"""So many ids for each token: no tokenizer leaves out more."""


def fit_embeddings(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, texts: Iterable[str], resize: bool
) -> None:
    """Check that each token has a row in the embedding, or add rows.

    A special token without one that neither the texts nor the chat template hold does no harm: it cannot occur.

    Args:
        name: of the model.
        model: its embedding, and its head if it has the same size, gets the new rows.
        tokenizer: the policy's.
        texts: the prompts and references.
        resize: add a row, drawn around the mean of the others, for each token without one.

    Raises:
        ModelError: a token has no row. It names both sizes.
    """
    rows = num_rows(model)
    tokens = sorted((index, token) for token, index in tokenizer.get_vocab().items() if index >= rows)
    if not tokens:
        return
    size = tokens[-1][0] + 1
    if size > MOST_GAPS * (len(tokenizer) + rows):
        raise ModelError(
            f"the tokenizer of the model {name!r} has {len(tokenizer.get_vocab())} tokens, and one of them has the id "
            f"{tokens[-1][0]}: {names([tokens[-1][1]])}. Its files are damaged: copy or download them again."
        )
    found = (
        f"the tokenizer of the model {name!r} has {size} tokens, but the model's embedding has {rows} rows: there is none "
        f"for {names([token for _, token in tokens])}"
    )
    remedy = "Set model.resize_embeddings = true to add the rows (the new ones start at about the mean of the others)"
    if resize:
        _add_rows(name, model, size)
    elif _can_occur([index for index, _ in tokens], tokenizer, texts):
        raise ModelError(f"{found}. {remedy}, or use the tokenizer that the model was trained with.")
    else:
        logger.warning(f"{found}. No prompt or reference holds such a token. {remedy}.")


def check_stops(name: str, model: PreTrainedModel) -> None:
    """Check that the model can write the tokens that end a completion, as its generation configuration lists them.

    Raises:
        ModelError: one is no token of the model.
    """
    found = getattr(model.generation_config, "eos_token_id", None)
    for token in found if isinstance(found, list) else [] if found is None else [found]:
        if not 0 <= int(token) < num_rows(model):
            raise ModelError(
                f"eos_token_id in the configuration of the model {name!r} is {found}, but its embedding has "
                f"{num_rows(model)} rows. Correct it in generation_config.json and config.json."
            )


def num_rows(model: PreTrainedModel) -> int:
    """Return the number of tokens that the model's embedding knows."""
    embedding = model.get_input_embeddings()
    weight = getattr(embedding, "weight", None)
    return weight.shape[0] if isinstance(weight, torch.Tensor) else int(model.config.get_text_config().vocab_size)


def _can_occur(ids: list[int], tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> bool:
    added = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    if not added.keys() >= set(ids) or any(index in tokenizer.all_special_ids for index in ids):
        return True
    contents = [added[index] for index in ids]
    templates = [str(tokenizer.chat_template or "")]
    return any(content in text for text in (*templates, *texts) for content in contents)


def _add_rows(name: str, model: PreTrainedModel, size: int) -> None:
    rows = num_rows(model)
    try:
        model.resize_token_embeddings(size)
    except Exception as error:
        raise ModelError(
            f"the embedding of the model {name!r} cannot grow from {rows} to {size} rows "
            f"({type(error).__name__}). Resize it with Transformers, and save the model again."
        ) from error
    head = model.get_output_embeddings()
    if isinstance(head, nn.Linear) and head.out_features != size:
        raise ModelError(f"the head of the model {name!r} did not grow with its embedding to {size} tokens.")
    logger.info(f"the embedding of the model {name!r} has grown from {rows} to {size} rows, for its tokenizer's tokens.")
