"""vLLM in the training process."""
