"""Estimator: call another system's advantage estimator with token-level rewards, and get one advantage per token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plugrad import AdvantageInputs, AdvantageOutputs, ContractError, OptionError, PlugradError
from plugrad_compat.adapters.config import Config
from plugrad_compat.adapters.foreign import from_their_frame
from plugrad_compat.adapters.metrics import type_of
from plugrad_compat.adapters.notices import notice
from plugrad_compat.adapters.signatures import Signature, Style, checked_signature


@dataclass(frozen=True)
class Estimator:
    """`(token_level_rewards, response_mask, index, config) -> (advantages, returns)`, each `[batch, response_length]`."""

    target: str
    """The name in the run file."""
    style: Style
    call: Callable[..., Any]
    signature: Signature
    config: Config
    kwargs: Mapping[str, Any]
    """The user's keyword arguments."""

    @classmethod
    def of(cls, target: str, style: Style, call: Callable[..., Any], config: Config, kwargs: Mapping[str, Any]) -> Estimator:
        """Return the estimator after checking that it has this style.

        Raises:
            PluginError: it has another style.
            OptionError: `kwargs` contains an argument that it does not take.
        """
        signature = checked_signature(target, call, style, kwargs)
        unknown = [name for name in kwargs if not signature.takes_any and name not in signature.names]
        if unknown:
            raise OptionError(f"{target!r} has no keyword argument {unknown[0]!r}. It takes {', '.join(signature.names)}.")
        return cls(target, style, call, signature, config, kwargs)

    def advantages(self, inputs: AdvantageInputs, more: Mapping[str, Any]) -> AdvantageOutputs:
        """Return one advantage per completion token.

        `more` holds this style's arguments besides rewards, mask and groups.

        Raises:
            ContractError: the estimator raised, or returned another shape.
        """
        mask = _response_mask(inputs.completion_lengths)
        given = {**_token_level(inputs, mask), "config": self.config, **more}
        found = self._called({**self.signature.taken(given), **self.kwargs})
        if not isinstance(found, Tensor) or found.shape != mask.shape:
            raise ContractError(
                f"{self.target!r} returned {type_of(found)} as advantages; {self.style.name} returns (advantages, returns), "
                f"both [batch, response_length], here {list(mask.shape)}."
            )
        for key in self.config.unread():
            notice(f"{self.target!r} never read {key!r} of its config. The key has no effect, or another name.")
        return AdvantageOutputs(_in_groups(found.to(inputs.rewards), inputs.completion_lengths))

    def _called(self, given: Mapping[str, Any]) -> Any:
        try:
            returned = self.call(**given)
        except PlugradError:
            raise
        except Exception as error:
            raise ContractError(f"{self.target!r} raised {type(error).__name__}: {error}") from from_their_frame(error)
        return returned[0] if isinstance(returned, tuple) and returned else returned


def _token_level(inputs: AdvantageInputs, mask: Tensor) -> dict[str, Any]:
    num_examples, per_example = inputs.rewards.shape
    return {
        "token_level_rewards": _at_the_last_token(inputs.rewards.flatten(), inputs.completion_lengths.flatten(), mask),
        "response_mask": mask.to(inputs.rewards),
        "index": np.array([str(example) for example in range(num_examples) for _ in range(per_example)], dtype=object),
    }


def _response_mask(lengths: Tensor) -> Tensor:
    longest = max(int(lengths.max()), 1)
    return torch.arange(longest) < lengths.flatten().unsqueeze(1)


def _at_the_last_token(rewards: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
    """Return `[batch, response_length]` with each reward at its completion's last token, like outcome rewards."""
    rows = rewards.new_zeros(mask.shape)
    rows[torch.arange(len(rows)), (lengths - 1).clamp(min=0)] = rewards
    return rows


def _in_groups(advantages: Tensor, lengths: Tensor) -> list[list[Tensor]]:
    per_example = lengths.shape[1]
    rows = [row[:length] for row, length in zip(advantages, lengths.flatten().tolist(), strict=True)]
    return [rows[start : start + per_example] for start in range(0, len(rows), per_example)]
