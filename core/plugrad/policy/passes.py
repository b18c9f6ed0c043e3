"""What a model is given for some rows, padded or packed, and where in its states what is wanted lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from plugrad.policy.packing import packed_inputs
from plugrad.policy.scored import Rows, last_counted


@dataclass(frozen=True)
class Pass:
    """The inputs of a model, and places in its hidden states, in the layout of these inputs."""

    inputs: dict[str, Any]
    predicts: Bool[Tensor, "..."]
    """The states that predict a counted token."""
    ends: Bool[Tensor, "..."]
    """The state of the last counted token of each row."""
    routed: Bool[Tensor, "..."]
    """The tokens of rows in which something counts: others only fill up a rank's share."""
    shift: Float[Tensor, "..."] | None
    """What is added to the embeddings."""

    @classmethod
    def of(cls, rows: Rows, *, packs: bool) -> Pass:
        """Lay out rows for a model that packs them, or pads them."""
        input_ids, attention_mask, counted, shift = rows
        routed = attention_mask & counted.any(dim=1, keepdim=True)
        predicts, ends = nn.functional.pad(counted[:, 1:], (0, 1)), last_counted(counted)
        if not packs:
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask.long(), "use_cache": False}
            return cls(inputs, predicts, ends, routed, shift)
        return cls(
            packed_inputs(input_ids, attention_mask),
            predicts[attention_mask].unsqueeze(0),
            ends[attention_mask].unsqueeze(0),
            routed[attention_mask],
            None if shift is None else shift[attention_mask].unsqueeze(0),
        )
