"""The servers' API key: from an environment variable, never printed and never written."""

from __future__ import annotations

import os

from plugrad.config.tables.server_table import API_KEY_VARIABLE, ServerTable
from plugrad.errors import EngineError


def api_key(table: ServerTable) -> str | None:
    """Return the key, or None where the servers have none.

    Raises:
        EngineError: the run file names a variable that is not set.
    """
    key = os.environ.get(variable_of(table))
    if not key and table.api_key_env is not None:
        raise EngineError(
            f"rollout.server.api_key_env names the environment variable {table.api_key_env}, which is not set: export the "
            "servers' API key in it, or take the line out of the run file if they have none."
        )
    return key or None


def headers_of(table: ServerTable) -> dict[str, str]:
    """Return what tells a server that a request is allowed."""
    key = api_key(table)
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def variable_of(table: ServerTable) -> str:
    """Return the name of the variable that the key is taken from."""
    return table.api_key_env or API_KEY_VARIABLE


def denied(address: str, said: str, table: ServerTable) -> EngineError:
    """Return the error for a server that does not let the run in."""
    variable = variable_of(table)
    found = "has another" if os.environ.get(variable) else "is not set"
    return EngineError(
        f"the server {address} does not let this run in: {said}. It was started with an API key (vLLM's --api-key), and the "
        f"environment variable {variable} {found}. Export the server's key in it."
    )
