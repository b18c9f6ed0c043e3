"""Choose the server for a request: the healthy one with the fewest requests in flight."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from plugrad.errors import EngineError, ServersLost

MAX_FAILURES = 3
"""Consecutive failures after which a server is deactivated. A single slow response is not enough."""


@dataclass
class ServerState:
    """What the balancer knows about one server."""

    address: str
    is_active: bool = False
    """Whether it receives requests. A server becomes active with its first weights."""
    num_in_flight: int = 0
    num_failures: int = 0
    """Consecutive failures."""
    last_error: str = "it has not received any weights yet"


@dataclass
class Balancer:
    """Spreads requests over the active servers. Only the engine's event loop uses it, so it needs no lock."""

    servers: Sequence[ServerState] = field(default_factory=list)
    log_hint: Callable[[], str] = lambda: ""
    """Returns text appended to errors: where to find out more."""

    @classmethod
    def of(cls, addresses: Sequence[str], log_hint: Callable[[], str] = lambda: "") -> Balancer:
        """Return a balancer in which no server is active yet."""
        return cls([ServerState(address) for address in addresses], log_hint)

    @property
    def active(self) -> list[ServerState]:
        """The servers that receive requests."""
        return [server for server in self.servers if server.is_active]

    @property
    def inactive(self) -> list[ServerState]:
        """The servers that receive no requests."""
        return [server for server in self.servers if not server.is_active]

    def pick(self, avoiding: Collection[str]) -> ServerState | None:
        """Return the active server with the fewest requests in flight; one in `avoiding` only if there is no other."""
        return min(self.active, key=lambda server: (server.address in avoiding, server.num_in_flight), default=None)

    def record_success(self, server: ServerState) -> None:
        """Reset the server's failure count."""
        server.num_failures = 0

    def record_failure(self, server: ServerState, error: str) -> None:
        """Count a failed request. After `MAX_FAILURES` in a row the server is deactivated."""
        server.num_failures += 1
        server.last_error = error
        if server.num_failures >= MAX_FAILURES:
            server.is_active = False

    def deactivate(self, server: ServerState, error: str) -> None:
        """Send the server no more requests until it is activated again."""
        server.is_active = False
        server.last_error = error

    def activate(self, server: ServerState) -> None:
        """Send the server requests again."""
        server.is_active, server.num_failures = True, 0

    def apply_update(self, errors: Mapping[str, str | None]) -> None:
        """Activate the servers that loaded the new weights (no error), and deactivate the others."""
        for server in self.servers:
            error = errors[server.address]
            if error is None:
                self.activate(server)
            else:
                self.deactivate(server, error)

    def all_failed(self, reason: str) -> EngineError:
        """Return the error for a run with no usable server, with the last error of each."""
        errors = "".join(f"\n    {server.address}: {server.last_error}" for server in self.servers)
        return ServersLost(f"{reason}{errors}{self.log_hint()}")
