"""The `vllm-server` engine: completions from running `vllm serve` processes, over HTTP."""
