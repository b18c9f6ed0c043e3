"""Build the command that starts a vLLM server for a run, with the flags that its log-probs, weights and routes need."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from urllib.parse import urlsplit

from plugrad.config.tables.server_table import ServerTable
from plugrad.processes import SAFE_PATH, environment
from plugrad.rollout.servers.api_key import api_key, api_key_variable
from plugrad.rollout.servers.cores import core_environment
from plugrad.rollout.servers.devices import gpu_environment
from plugrad.rollout.vllm.cpu import KV_CACHE_GIB, SERVE_ARGUMENTS

COMMAND = ["-m", "vllm.entrypoints.cli.main"]
"""The module that the `vllm` command runs."""
OLD_COMMAND = ["-m", "vllm.entrypoints.openai.api_server"]


@dataclass(frozen=True)
class ServerCommand:
    """The command that starts one server."""

    address: str
    arguments: list[str]
    """Python's arguments."""
    environment: Mapping[str, str]
    """Variables added to the current environment."""
    key_variable: str | None
    """The variable that holds the API key, if there is one."""

    def __str__(self) -> str:
        """Return the command as typed in a shell. The key stays in its variable."""
        given = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        key = [f'VLLM_API_KEY="${self.key_variable}"'] if self.key_variable else []
        is_command = self.arguments[: len(COMMAND)] == COMMAND
        typed = ["vllm", *self.arguments[len(COMMAND) :]] if is_command else ["python", *self.arguments]
        return " ".join([*given, *key, shlex.join(typed)])

    @property
    def full_environment(self) -> dict[str, str]:
        """The server process's environment: this process's without the variables of a rank, plus the server's own."""
        inherited = {name: value for name, value in environment().items() if not _is_rank_variable(name)}
        key = {"VLLM_API_KEY": os.environ[self.key_variable]} if self.key_variable else {}
        # VLLM starts processes of its own, some without Python's -P.
        return {**inherited, SAFE_PATH: "1", **self.environment, **key}


def server_commands(
    addresses: Sequence[str],
    model: str,
    table: ServerTable,
    *,
    dtype: str,
    max_model_len: int | None,
    is_cpu: bool,
    beside_trainer: bool = False,
    trust_remote_code: bool = False,
) -> list[ServerCommand]:
    """Return the command of a server for each address.

    Servers with the same host share its GPUs, or on a CPU its cores; also with the trainer if it runs beside them.

    Raises:
        EngineError: the run file names a variable for the API key that is not set.
    """
    key_variable = api_key_variable(table) if api_key(table) else None

    def device_environment(address: str) -> dict[str, str]:
        if is_cpu:
            return core_environment(address, addresses, table.args, beside_trainer=beside_trainer)
        # CUDA IPC connects processes on one GPU, so the server runs on the trainer's.
        return {} if table.weights == "ipc" else gpu_environment(address, addresses, beside_trainer=beside_trainer)

    code = ["--trust-remote-code"] if trust_remote_code else []
    return [
        ServerCommand(
            address,
            [*_arguments(address, model, table, dtype, max_model_len, is_cpu), *code, *table.args],
            {
                # Enables the routes that pause the server and change its weights.
                "VLLM_SERVER_DEV_MODE": "1",
                # If unset, every installed vLLM plugin loads.
                "VLLM_PLUGINS": ",".join(table.plugins),
                **({"VLLM_ALLOW_INSECURE_SERIALIZATION": "1"} if table.weights == "ipc" else {}),
                **device_environment(address),
            },
            key_variable,
        )
        for address in addresses
    ]


def _arguments(
    address: str, model: str, table: ServerTable, dtype: str, max_model_len: int | None, is_cpu: bool
) -> list[str]:
    where = urlsplit(address)
    port = where.port or (443 if where.scheme == "https" else 80)
    arguments = [*OLD_COMMAND, "--model", model] if lacks_the_command() else [*COMMAND, "serve", model]
    arguments += ["--host", str(where.hostname), "--port", str(port)]
    arguments += ["--dtype", dtype, *_if_given("--max-model-len", max_model_len)]
    # The trainer sends weights before the first request.
    arguments += ["--load-format", "dummy"]
    # Tokens in and out; log-probs of the sampled distribution; nothing from the model's generation config.
    arguments += ["--enable-scale-out", "--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"]
    arguments += ["--enable-prefix-caching", "--disable-uvicorn-access-log"]
    if table.weights in ("nccl", "ipc"):
        arguments += ["--weight-transfer-config", f'{{"backend": "{table.weights}"}}']
    kv_cache_gib = table.kv_cache_gib or (KV_CACHE_GIB if is_cpu else None)
    arguments += _if_given("--kv-cache-memory-bytes", None if kv_cache_gib is None else int(kv_cache_gib * 2**30))
    return [*arguments, *SERVE_ARGUMENTS] if is_cpu else arguments


def lacks_the_command() -> bool:
    """Return whether the installed vLLM is the package for CPUs: its `vllm serve` fails without a package called vllm."""
    try:
        distribution("vllm")
    except PackageNotFoundError:
        return find_spec("vllm") is not None
    return False


def _if_given(name: str, value: int | None) -> list[str]:
    return [] if value is None else [name, str(value)]


def _is_rank_variable(name: str) -> bool:
    """Return whether a launcher sets this variable for its ranks: vLLM would take the server for a rank."""
    return name in (
        "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "MASTER_ADDR",
        "MASTER_PORT",
    ) or name.startswith(("ROLE_", "TORCHELASTIC_", "ACCELERATE_", "FSDP_"))  # fmt: skip
