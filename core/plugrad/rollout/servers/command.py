"""The command that starts a vLLM server for a run: the flags that its log-probs, its weights and its routes depend on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from urllib.parse import urlsplit

from plugrad.config.tables.server_table import ServerTable
from plugrad.rollout.servers.api_key import api_key, variable_of
from plugrad.rollout.servers.cores import cores_of
from plugrad.rollout.servers.devices import devices_of

COMMAND = ["-m", "vllm.entrypoints.cli.main"]
"""What the command `vllm` runs."""
OLD_COMMAND = ["-m", "vllm.entrypoints.openai.api_server"]
DEFAULT_KV_CACHE_GIB = 1.0


@dataclass(frozen=True)
class ServerCommand:
    """What starts one server."""

    address: str
    arguments: list[str]
    """Of Python."""
    environment: Mapping[str, str]
    """Beside what is there already."""
    key_variable: str | None
    """Where the API key is, if there is one."""

    def __str__(self) -> str:
        """Return the command as one types it in a shell. The key stays in its variable."""
        given = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        key = [f'VLLM_API_KEY="${self.key_variable}"'] if self.key_variable else []
        is_command = self.arguments[: len(COMMAND)] == COMMAND
        typed = ["vllm", *self.arguments[len(COMMAND) :]] if is_command else ["python", *self.arguments]
        return " ".join([*given, *key, shlex.join(typed)])

    @property
    def full_environment(self) -> dict[str, str]:
        """The process's environment: this one's without what tells a rank who it is, and what the server needs."""
        inherited = {name: value for name, value in os.environ.items() if not _is_of_a_rank(name)}
        key = {"VLLM_API_KEY": os.environ[self.key_variable]} if self.key_variable else {}
        return {**inherited, **self.environment, **key}


def server_commands(
    addresses: Sequence[str],
    model: str,
    table: ServerTable,
    *,
    dtype: str,
    max_model_len: int | None,
    is_cpu: bool,
    beside_trainer: bool = False,
) -> list[ServerCommand]:
    """Return the command for a server at each of these addresses.

    Those with one host share its GPUs, or on a CPU its cores, with the trainer too if it computes beside them.

    Raises:
        EngineError: the run file names a variable for the API key that is not set.
    """
    key_variable = variable_of(table) if api_key(table) else None

    def place_of(address: str) -> dict[str, str]:
        if is_cpu:
            return cores_of(address, addresses, table.args, beside_trainer=beside_trainer)
        # CUDA IPC is between processes on one GPU: such a server computes on the trainer's.
        return {} if table.weights == "ipc" else devices_of(address, addresses, beside_trainer=beside_trainer)

    return [
        ServerCommand(
            address,
            _arguments(address, model, table, dtype, max_model_len, is_cpu),
            {
                # Without it a server has no routes that pause it and change its weights.
                "VLLM_SERVER_DEV_MODE": "1",
                # Unset, every installed plugin of vLLM's would load.
                "VLLM_PLUGINS": ",".join(table.plugins),
                **({"VLLM_ALLOW_INSECURE_SERIALIZATION": "1"} if table.weights == "ipc" else {}),
                **place_of(address),
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
    # The trainer gives it weights before it is asked for anything.
    arguments += ["--load-format", "dummy"]
    # Tokens in and out; log-probs of the distribution that is sampled; nothing from the model's generation config.
    arguments += ["--enable-scale-out", "--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"]
    arguments += ["--enable-prefix-caching", "--disable-uvicorn-access-log"]
    if table.weights in ("nccl", "ipc"):
        arguments += ["--weight-transfer-config", f'{{"backend": "{table.weights}"}}']
    kv_cache_gib = table.kv_cache_gib or (DEFAULT_KV_CACHE_GIB if is_cpu else None)
    arguments += _if_given("--kv-cache-memory-bytes", None if kv_cache_gib is None else int(kv_cache_gib * 2**30))
    # On a CPU vLLM 0.32 dies of a prompt that it reads in pieces: it wants to put its seeded generator back, which there is
    # no way to do.
    arguments += ["--enforce-eager", "--no-enable-chunked-prefill"] if is_cpu else []
    return [*arguments, *table.args]


def lacks_the_command() -> bool:
    """Return whether the vLLM here is the package for CPUs: its `vllm serve` stops at not finding one called vllm."""
    try:
        distribution("vllm")
    except PackageNotFoundError:
        return find_spec("vllm") is not None
    return False


def _if_given(name: str, value: int | None) -> list[str]:
    return [] if value is None else [name, str(value)]


def _is_of_a_rank(name: str) -> bool:
    """Return whether a launcher of ranks has set this variable: vLLM would take a server for one of them."""
    return name in (
        "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "MASTER_ADDR",
        "MASTER_PORT",
    ) or name.startswith(("ROLE_", "TORCHELASTIC_", "ACCELERATE_", "FSDP_"))  # fmt: skip
