"""NeMo RL's loss protocol, and the mapping that a loss receives."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

from torch import Tensor

from plugrad_compat.adapters.config import MissingKey


class LossType(Enum):
    """What a loss is divided by: all valid tokens of the batch, or all valid sequences."""

    TOKEN_LEVEL = "token_level"
    SEQUENCE_LEVEL = "sequence_level"


class LossInputType(Enum):
    """What a loss receives besides its data, in versions that also pass log-probs."""

    LOGIT = "logit"
    LOGPROB = "logprob"


class MetricNormalizer(Enum):
    """What a metric was divided by. A loss may state it in `metric_normalizations`."""

    TOKENS = "tokens"
    SEQUENCES = "sequences"
    NONE = "none"


class BatchedDataDict(dict[str, Any]):
    """The data of a micro-batch: a dict. NeMo RL's also has methods to shard and slice it, which no loss calls."""

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
        raise MissingKey(f"{key!r}: there are {', '.join(self)}, and the keys that a trial of the loss before the run read.")


class LossFunction(Protocol):
    """NeMo RL's protocol. `next_token_logits` comes first; later versions pass what `input_type` says, by name."""

    loss_type: LossType
    """What its sums are divided by."""

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return a scalar, divided by `global_valid_seqs` or `global_valid_toks`, and metrics."""
        ...


class BaseLossFunction:
    """The base class of the losses in NeMo RL's guide. `forward` names what it takes, and returns a scalar and metrics.

    It takes its arguments by name: see `plugrad_compat.nemo_rl.arguments` for the names that are known.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Any]]:
        """Call `forward`."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return a scalar, reduced by a mean, and metrics."""
        raise NotImplementedError(f"{type(self).__name__} has no forward().")
