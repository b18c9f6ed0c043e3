"""The length of a model's last hidden states."""

from __future__ import annotations

from transformers import PreTrainedModel


def hidden_size_of(model: PreTrainedModel) -> int:
    """Return the length of what the output layer reads."""
    head = model.get_output_embeddings()
    return int(head.weight.shape[1]) if head is not None else int(model.config.get_text_config().hidden_size)
