"""What an engine with a copy of the weights must know of the policy to build the same model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from plugrad.errors import EngineError

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


@dataclass(frozen=True)
class EngineModel:
    """The policy, but for its weights."""

    name: str | None
    """A hub id or a folder; None for a model that was built from scratch."""
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    dtype: torch.dtype
    stops: frozenset[int]
    """The tokens that end a completion."""
    max_tokens: int
    """In prompt and completion together."""

    @property
    def vocab_size(self) -> int:
        """Of the head: tokens beyond it are never sampled."""
        return int(self.config.get_text_config().vocab_size)

    @property
    def dtype_name(self) -> str:
        """Return the dtype as vLLM calls it.

        Raises:
            EngineError: vLLM does not compute in it.
        """
        if self.dtype not in DTYPES:
            raise EngineError(
                f"the policy's weights are {str(self.dtype).removeprefix('torch.')}, in which vLLM does not compute: set "
                'model.dtype to "float32" or "bfloat16".'
            )
        return DTYPES[self.dtype]

    def save(self, folder: str | Path) -> None:
        """Write configuration and tokenizer, as a Transformers folder has them, without weights."""
        self.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
