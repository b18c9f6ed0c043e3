"""The description of the policy from which an engine with its own weights builds the same model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from plugrad.errors import EngineError

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


@dataclass(frozen=True)
class EngineModel:
    """The policy without its weights."""

    name: str | None
    """A hub id or a folder. None if no folder holds this model: it was built from scratch, or its embedding has grown."""
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    dtype: torch.dtype
    stops: frozenset[int]
    """The tokens that end a completion."""
    max_tokens: int
    """Maximum number of tokens in prompt and completion together."""
    trust_remote_code: bool = False
    """Whether Python code in the model's folder may run."""

    @property
    def vocab_size(self) -> int:
        """Vocabulary size of the LM head. Tokens beyond it are never sampled."""
        return int(self.config.get_text_config().vocab_size)

    @property
    def dtype_name(self) -> str:
        """Return vLLM's name of the dtype.

        Raises:
            EngineError: vLLM does not support it.
        """
        if self.dtype not in DTYPES:
            raise EngineError(
                f"the policy's weights are {str(self.dtype).removeprefix('torch.')}, which vLLM does not support: set "
                'model.dtype to "float32" or "bfloat16".'
            )
        return DTYPES[self.dtype]

    def save(self, folder: str | Path) -> None:
        """Write configuration and tokenizer as a Transformers folder without weights."""
        self.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
