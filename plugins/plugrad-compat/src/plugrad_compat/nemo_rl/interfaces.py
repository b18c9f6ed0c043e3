"""NeMo RL's protocol of a loss, and the mapping that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

from torch import Tensor

from plugrad_compat.adapters.config import MissingKey


class LossType(Enum):
    """By what a loss is divided: all valid tokens of the batch, or all valid sequences."""

    TOKEN_LEVEL = "token_level"
    SEQUENCE_LEVEL = "sequence_level"


class LossInputType(Enum):
    """What a loss is called with beside its data, in versions that hand out log-probs too."""

    LOGIT = "logit"
    LOGPROB = "logprob"


class MetricNormalizer(Enum):
    """What a metric has been divided by, of which a loss may say so in `metric_normalizations`."""

    TOKENS = "tokens"
    SEQUENCES = "sequences"
    NONE = "none"


class BatchedDataDict(dict[str, Any]):
    """The data of a micro-batch: a dict. NeMo RL's has methods to shard and slice it too, which no loss calls."""

    def __init__(self, values: Mapping[str, Any], read: set[str] | None = None) -> None:
        super().__init__(values)
        self._read = read

    def __getitem__(self, key: str) -> Any:
        if self._read is not None:
            self._read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or the default."""
        if self._read is not None:
            self._read.add(key)
        return super().get(key, default)

    def __missing__(self, key: str) -> Any:
        raise MissingKey(f"{key!r}: there are {', '.join(self)}, and what a trial of the loss before the run has read.")


class LossFunction(Protocol):
    """NeMo RL's protocol: `next_token_logits` comes first, or in later versions, by name, what `input_type` says."""

    loss_type: LossType
    """What its sums are divided by."""

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return a scalar, divided by `global_valid_seqs` or `global_valid_toks`, and metrics."""
        ...
