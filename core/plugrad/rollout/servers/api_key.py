"""The servers' API key: read from an environment variable, never printed and never written."""

from __future__ import annotations

import os

from plugrad.config.tables.server_table import API_KEY_VARIABLE, ServerTable
from plugrad.errors import EngineError
from plugrad.secret_texts import shown_unless_secret


def api_key(table: ServerTable) -> str | None:
    """Return the API key, or None if the servers have none.

    Raises:
        EngineError: the run file names a variable that is not set.
    """
    key = os.environ.get(api_key_variable(table))
    if not key and table.api_key_env is not None:
        # Somebody may have written the key itself.
        named = shown_unless_secret("key", table.api_key_env)
        raise EngineError(
            f"rollout.server.api_key_env names the environment variable {named}, which is not set: export the "
            "servers' API key in it, or remove the line from the run file if the servers have none."
        )
    return key or None


def auth_headers(table: ServerTable) -> dict[str, str]:
    """Return the HTTP headers that authorise a request."""
    key = api_key(table)
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def api_key_variable(table: ServerTable) -> str:
    """Return the name of the environment variable that holds the key."""
    return table.api_key_env or API_KEY_VARIABLE


def access_denied(address: str, reason: str, table: ServerTable) -> EngineError:
    """Return the error for a server that denies this run access."""
    variable = api_key_variable(table)
    found = "holds a different key" if os.environ.get(variable) else "is not set"
    return EngineError(
        f"the server {address} denied this run access: {reason}. It was started with an API key (vLLM's --api-key), and the "
        f"environment variable {variable} {found}. Export the server's key in it."
    )
