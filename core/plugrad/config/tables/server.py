"""`[rollout.server]`: the vLLM servers that complete prompts for `engine = "vllm-server"`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from plugrad.config.tables.table import Table

API_KEY_VARIABLE = "PLUGRAD_API_KEY"
"""Where the key is looked for when a run file names no variable."""


def _is_address(value: str) -> str:
    """Return the address of a server, which is a scheme, a host and perhaps a port, and nothing behind them."""
    parts = urlsplit(value if "://" in value else f"http://{value}")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError('its port is no number from 1 to 65535. Write an address such as "http://127.0.0.1:8000"') from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError('it is no address of a server. Write one such as "http://127.0.0.1:8000"')
    if parts.username or parts.password:
        raise ValueError(
            "a run file is no place for a password. A server's key comes from the variable that api_key_env names"
        )
    if value != (address := f"{parts.scheme}://{parts.netloc}"):
        raise ValueError(f'write "{address}": the scheme, the host and the port, and nothing behind them')
    return value


class ServerTable(Table):
    """`[rollout.server]`: the servers of the engine `vllm-server`, and how they are asked."""

    addresses: list[Annotated[str, AfterValidator(_is_address)]] = Field(
        default=[],
        description='Running `vllm serve` processes, as "http://host:port"; default: the run starts its own and stops them.',
    )
    num_servers: PositiveInt = Field(default=1, description="How many are started where `addresses` is empty.")
    args: list[str] = Field(
        default=[],
        description='More arguments of `vllm serve` for servers that plugrad starts, as ["--tensor-parallel-size", "2"].',
    )
    plugins: list[str] = Field(
        default=[], description="vLLM's own plugins that may load in a server that plugrad starts: its `VLLM_PLUGINS`."
    )
    api_key_env: str | None = Field(
        default=None,
        description=f"The environment variable with the servers' API key; default: `{API_KEY_VARIABLE}`, if it is set.",
    )
    concurrency: PositiveInt = Field(
        default=256, description="The most requests of one rank at once; a request is a prompt with all its completions."
    )
    timeout_s: PositiveFloat = Field(default=600.0, description="Seconds until a request is given to another server.")
    retries: Annotated[int, Field(ge=0)] = Field(
        default=5,
        description="How often a request is tried again, on other servers first, after pauses that grow to 20 s at most, "
        "before the run stops.",
    )
    weights: Literal["auto", "folder", "nccl", "ipc"] = Field(
        default="auto",
        description="How new weights reach the servers: through a folder that they see, or by vLLM's own weight transfer. "
        "`auto` takes what the servers were started with.",
    )
    weights_folder: str | None = Field(
        default=None,
        description="On a file system that trainer and servers share; default: `weights` in the run folder.",
    )
    start_timeout_s: PositiveFloat = Field(default=600.0, description="Seconds that a server may take to start.")
    kv_cache_gib: PositiveFloat | None = Field(
        default=None,
        description="For keys and values in each server that plugrad starts; default: 1 on a CPU, vLLM's rule on a GPU.",
    )

    @model_validator(mode="after")
    def _servers_are_named_once(self) -> ServerTable:
        if repeated := sorted({address for address in self.addresses if self.addresses.count(address) > 1}):
            raise ValueError(f"addresses names {', '.join(repeated)} more than once")
        if self.addresses and self.num_servers not in (1, len(self.addresses)):
            raise ValueError(
                f"num_servers = {self.num_servers} are to be started, and addresses names {len(self.addresses)} that run "
                "already: leave one of the two out"
            )
        return self

    def with_absolute_paths(self, folders: Sequence[Path]) -> Self:
        """Return the table with an absolute `weights_folder`, which is relative to the working directory."""
        folder = self.weights_folder and str(Path(self.weights_folder).expanduser().resolve())
        return self.model_copy(update={"weights_folder": folder})
