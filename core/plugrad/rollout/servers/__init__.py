"""The `vllm-server` engine: samples completions from running `vllm serve` processes over HTTP."""
