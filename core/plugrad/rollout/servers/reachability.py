"""Check that running servers respond, before a model is loaded, which may take minutes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import ServersLost
from plugrad.rollout.servers.api_key import auth_headers
from plugrad.rollout.servers.server import CONNECT_TIMEOUT_S, Server, call_in_parallel

FROM_SCRATCH = (
    "The run's model is built from scratch: leave rollout.server.addresses empty, and the run starts its own servers."
)
"""The advice when no server can be started before the run."""


def check_reachable(table: ServerTable, model: str | None) -> None:
    """Check that all of the run file's servers respond.

    Args:
        table: the run file's `[rollout.server]`.
        model: the run's model, or None if it is built from scratch.

    Raises:
        EngineError: a server does not respond. The message names the failure and how to start the servers.
    """
    calls: dict[str, Callable[[], None]] = {
        address: partial(_call_health, Server(address, auth_headers(table), CONNECT_TIMEOUT_S))
        for address in table.addresses
    }
    errors = {address: error for address, error in call_in_parallel(calls).items() if error}
    if errors:
        lines = "\n".join(f"    {address}: {error}" for address, error in errors.items())
        raise ServersLost(f"not all servers in rollout.server.addresses can be used:\n{lines}\n{_advice(model)}")


def _call_health(server: Server) -> None:
    try:
        server.get("/health")
    finally:
        server.close()


def _advice(model: str | None) -> str:
    if model is None:
        return FROM_SCRATCH
    return "`plugrad serve` with this run file starts them; --print shows the commands."
