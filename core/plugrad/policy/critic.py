"""The critic: V(s) = w . h(s) + b, from the policy's last hidden states or those of a model of its own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plugrad.policy.lm_head import backbone
from plugrad.policy.packing import can_pack
from plugrad.policy.passes import Pass
from plugrad.policy.scored import Rows, at_counted, of_rows


class ValueHead(nn.Module):
    """A linear map from a hidden state to a number, in float32 at least. It starts at zero: no state has a value yet."""

    def __init__(self, hidden_size: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1, dtype=torch.promote_types(dtype, torch.float32), device=device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Float[Tensor, "*places hidden"]) -> Float[Tensor, "*places"]:
        """Return the value of each state."""
        # Autocast would multiply in 16 bits.
        with torch.autocast(hidden.device.type, enabled=False):
            # A product with a vector: what shards a module must not get a view of a result from it.
            return hidden.to(self.linear.weight.dtype) @ self.linear.weight[0] + self.linear.bias


class Critic(nn.Module):
    """A value head, and the model that it reads unless that is the policy itself."""

    def __init__(self, head: ValueHead, model: nn.Module | None = None) -> None:
        super().__init__()
        self.head = head
        self.model = model
        self.packs = model is None or can_pack(model)

    def of_states(
        self, at_counted_tokens: Float[Tensor, "tokens hidden"], at_the_ends: Float[Tensor, "rows hidden"], rows: Rows
    ) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, "batch"]]:
        """Return the values of the states before each counted token and after the last, at their places in the rows."""
        return at_counted(self.head(at_counted_tokens), rows.counted), of_rows(self.head(at_the_ends), rows.counted)

    def forward(self, rows: Rows) -> tuple[Float[Tensor, "batch seq"], Float[Tensor, "batch"]]:
        """Run the critic's own model, and return the values of its states."""
        assert self.model is not None
        given = Pass.of(rows, packs=self.packs)
        states: Tensor = backbone(self.model)(**given.inputs)[0]
        return self.of_states(states[given.predicts], states[given.ends], rows)
