"""Whether servers that run already can be reached: asked before a model is loaded, which may take minutes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import EngineError
from plugrad.rollout.servers.api_key import headers_of
from plugrad.rollout.servers.server import CONNECT_TIMEOUT_S, Server, all_at_once

FROM_SCRATCH = "The run's model is built from scratch: leave rollout.server.addresses empty, and it starts servers for it."
"""What to do where no server can be started before the run."""


def check_reached(table: ServerTable, model: str | None) -> None:
    """See that all of the run file's servers answer.

    Args:
        table: of the run file.
        model: the run's, or None if it is built from scratch.

    Raises:
        EngineError: one does not, with what became of the request, and how servers are started.
    """
    tries: dict[str, Callable[[], None]] = {
        address: partial(_ask, Server(address, headers_of(table), CONNECT_TIMEOUT_S)) for address in table.addresses
    }
    complaints = {address: said for address, said in all_at_once(tries).items() if said}
    if complaints:
        said = "\n".join(f"    {address}: {complaint}" for address, complaint in complaints.items())
        raise EngineError(f"not all servers of rollout.server.addresses can be used:\n{said}\n{_remedy(model)}")


def _ask(server: Server) -> None:
    try:
        server.get("/health")
    finally:
        server.close()


def _remedy(model: str | None) -> str:
    if model is None:
        return FROM_SCRATCH
    return "`plugrad serve` with this run file starts them as the run needs them; --print shows the commands."
