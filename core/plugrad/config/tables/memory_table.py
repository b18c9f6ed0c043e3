"""`[memory]`: what waits in the machine's memory while a GPU does something else."""

from __future__ import annotations

from pydantic import Field

from plugrad.config.tables.table import Table


class MemoryTable(Table):
    """`[memory]`: what waits in the machine's memory while the GPU needs its own. It changes no bit of the training."""

    offload_optimizer: bool = Field(
        default=False,
        description="What the optimizer keeps, masters included: each weight's comes to the GPU for its own update.",
    )
    offload_activations: bool = Field(
        default=False, description="What the backward pass needs of the forward pass. The weights themselves stay."
    )
    offload_reference: bool = Field(default=False, description="The reference, but for the time in which it scores a batch.")

    @property
    def asked_for(self) -> list[str]:
        """The keys that are true."""
        return [name for name in type(self).model_fields if getattr(self, name)]
