"""The `vllm` engine: vLLM in the training process."""
