"""`[rollout.server]`: options of `engine = "vllm-server"`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from plugrad.config.secret_arguments import OF_SERVERS, refuse_secret_arguments
from plugrad.config.tables.number_types import Count, CountOrZero, NumProcesses, Positive, Seconds
from plugrad.config.tables.table import Table
from plugrad.paths import absolute

API_KEY_VARIABLE = "PLUGRAD_API_KEY"
"""The variable with the API key if the run file names none."""


def _is_address(value: str) -> str:
    """Check that a value is a server's address: a scheme, a host and an optional port, with no path."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
    except ValueError as error:
        raise ValueError(f'this is not a server address ({error}). Write one such as "http://127.0.0.1:8000"') from None
    try:
        _ = parts.port
    except ValueError:
        raise ValueError('the port must be from 1 to 65535. Write an address such as "http://127.0.0.1:8000"') from None
    if parts.scheme not in ("http", "https") or not _is_host(parts.hostname or ""):
        raise ValueError('this is not a server address. Write one such as "http://127.0.0.1:8000"')
    if value != (address := f"{parts.scheme}://{parts.netloc}"):
        raise ValueError(f'write "{address}": the scheme, the host and the port only')
    return value


def _is_host(name: str) -> bool:
    """Return whether this is an address of the internet protocol, or can be the name of a host."""
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        try:
            # The encoding refuses empty parts, and those that are too long.
            encoded = name.encode("idna").decode()
        except UnicodeError:
            return False
        return re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?", encoded) is not None and len(encoded) < 254
    return True


class ServerTable(Table):
    """`[rollout.server]`: the servers of the engine `vllm-server`, and how requests reach them."""

    secrets_belong: ClassVar[str] = OF_SERVERS

    addresses: list[Annotated[str, AfterValidator(_is_address)]] = Field(
        default=[],
        description='Running `vllm serve` processes, as "http://host:port". Default: the run starts and stops its own.',
    )
    num_servers: NumProcesses = Field(default=1, description="Number of servers to start if `addresses` is empty.")
    args: list[str] = Field(
        default=[],
        description='More `vllm serve` arguments for servers that plugrad starts, as ["--tensor-parallel-size", "2"].',
    )
    plugins: list[str] = Field(
        default=[], description="vLLM plugins that may load in servers that plugrad starts (`VLLM_PLUGINS`)."
    )
    api_key_env: str | None = Field(
        default=None,
        description=f"Environment variable with the servers' API key. Default: `{API_KEY_VARIABLE}`, if set.",
    )
    concurrency: Count = Field(
        default=256,
        description="Maximum number of concurrent requests per rank. A request is one prompt with all its completions.",
    )
    timeout_s: Seconds = Field(default=600.0, description="Seconds until a request moves to another server.")
    retries: CountOrZero = Field(
        default=5,
        description="Retries of a request before the run stops. Other servers are tried first. Pauses grow to at most 20 s.",
    )
    weights: Literal["auto", "folder", "nccl", "ipc"] = Field(
        default="auto",
        description="How new weights reach the servers: through a shared folder, or by vLLM's weight transfer (NCCL, IPC). "
        "`auto` uses what the servers were started with.",
    )
    weights_folder: str | None = Field(
        default=None,
        description="A folder that the trainer and the servers share. Default: `weights` in the run folder.",
    )
    start_timeout_s: Seconds = Field(default=600.0, description="Seconds to wait for a server to start.")
    kv_cache_gib: Positive | None = Field(
        default=None,
        description="Size of the KV cache in GiB, per server that plugrad starts. Default: 1 on a CPU, vLLM's on a GPU.",
    )

    @field_validator("args", mode="before")
    @classmethod
    def _give_no_secrets(cls, args: Any) -> Any:
        refuse_secret_arguments(args)
        return args

    @model_validator(mode="after")
    def _check_servers(self) -> ServerTable:
        if repeated := sorted({address for address in self.addresses if self.addresses.count(address) > 1}):
            raise ValueError(f"addresses names {', '.join(repeated)} more than once")
        if self.addresses and self.num_servers not in (1, len(self.addresses)):
            raise ValueError(
                f"num_servers = {self.num_servers} starts servers, but addresses names {len(self.addresses)} that already "
                "run: remove one of the two keys"
            )
        return self

    def with_absolute_paths(self, folders: Sequence[Path]) -> Self:
        """Return the table with an absolute `weights_folder`, which is relative to the working directory."""
        folder = self.weights_folder and str(absolute(self.weights_folder))
        return self.model_copy(update={"weights_folder": folder})
