"""The tokens that end a completion."""

from __future__ import annotations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plugrad.rollout.chat import turn_end


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end a completion. Chat models have several.

    They are the end-of-sequence tokens of the tokenizer and of the model's generation config, and the token with which the
    chat template ends an answer.
    """
    configured = getattr(model.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    end = turn_end(tokenizer, {})
    found = [tokenizer.eos_token_id, *listed, None if end is None else end.token]
    return frozenset(int(token) for token in found if token is not None)
