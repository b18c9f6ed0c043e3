"""Tests with the real vLLM: `nox -s vllm` runs them. Without it they are not collected."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("vllm") else ["test_*.py"]
