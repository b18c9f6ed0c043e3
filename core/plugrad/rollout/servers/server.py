"""One vLLM server: the HTTP calls with which a run inspects it, pauses it and updates its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from plugrad.json_text import parse_json
from plugrad.rollout.servers.answer import MAX_BYTES, AnswerTooLong, connections_end_after, read_answer_now
from plugrad.rollout.servers.weight_labels import WeightLabels

EXCERPT_CHARACTERS = 200
CONNECT_TIMEOUT_S = 10.0
DENIED_STATUSES = (401, 403)
BYPASS_PROXY: dict[str, None] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
"""Addresses for which httpx ignores a proxy in the environment: the proxy would look for them on its own machine."""


class ServerError(Exception):
    """A server cannot be reached, or rejects a call."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status, if the server responded."""


class Server:
    """A server's own routes. Those that pause it and change its weights exist only in vLLM's development mode."""

    def __init__(self, address: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._http = httpx.Client(
            base_url=address,
            headers=dict(headers),
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            # vLLM closes a connection after an error. These calls are few, so each opens its own.
            limits=httpx.Limits(max_keepalive_connections=0),
            mounts=BYPASS_PROXY,
        )

    def get(self, path: str, **parameters: str) -> Any:
        """Return the server's JSON response, or None if the body is empty.

        Raises:
            ServerError: the server cannot be reached, or returns an error or something other than JSON.
        """
        return self._call("GET", path, parameters, None)

    def post(self, path: str, body: Any = None, **parameters: str) -> Any:
        """Return the server's JSON response, as `get` does."""
        return self._call("POST", path, parameters, body)

    def weight_label(self) -> str:
        """Return the label of the server's weights.

        Raises:
            ServerError: the server does not report one.
        """
        found = self.get("/weight_info")
        if not isinstance(found, dict) or "weight_version" not in found:
            raise ServerError(f"GET /weight_info returned no weight version but {excerpt(str(found))}")
        return str(found["weight_version"])

    @contextmanager
    def updating_weights(self, label: str, labels: WeightLabels) -> Iterator[None]:
        """Pause the server while the caller changes its weights. Requests in flight wait, and continue with the new ones.

        During the change the weights carry the label `unfinished`. If it is interrupted, no token that the server then
        samples counts as the policy's.
        """
        try:
            self.post("/pause", mode="keep")
            self.post("/update_weight_version", {"new_version": labels.unfinished})
            yield
            if (found := self.weight_label()) != labels.unfinished:
                raise ServerError(
                    f"its weights became {excerpt(found)} during the update: another run updates this server too. Give "
                    "each run its own servers"
                )
            # Requests in flight recompute what the old weights had computed.
            self.post("/reset_prefix_cache", reset_running_requests="true")
            self.post("/update_weight_version", {"new_version": label})
        except BaseException:
            with suppress(ServerError):
                self.post("/resume")
            raise
        self.post("/resume")

    def load_weights(self, folder: Path) -> None:
        """Load the weights in a folder, in place. Call it inside `updating_weights` only."""
        try:
            # The loader of a server that was started without weights cannot read any.
            self._call_workers("update_config", overrides={"load_config": {"load_format": "auto"}})
            self._call_workers("reload_weights", weights_path=str(folder))
        except ServerError as error:
            raise ServerError(
                f"it could not load the weights in {folder}: {error}. The server must see that folder under the same path "
                "(rollout.server.weights_folder). If it does, it serves another model: see its log, and restart it, because "
                "it cannot load other weights before that",
                error.status,
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call_workers(self, method: str, **arguments: Any) -> None:
        self.post("/collective_rpc", {"method": method, "kwargs": arguments})

    def _call(self, method: str, path: str, parameters: Mapping[str, str], body: Any) -> Any:
        try:
            with (
                connections_end_after(self._timeout_s) as extensions,
                self._http.stream(method, path, params=parameters, json=body, extensions=dict(extensions)) as stream,
            ):
                response = read_answer_now(stream, MAX_BYTES)
        except AnswerTooLong as error:
            raise ServerError(f"{method} {path}: {error}") from error
        except httpx.HTTPError as error:
            raise ServerError(describe_error(error)) from error
        if not response.is_success:
            raise ServerError(f"{method} {path} returned {describe_response(response)}", response.status_code)
        try:
            return parse_json(response.content) if response.content else None
        except ValueError as error:
            raise ServerError(f"{method} {path} returned {excerpt(response.text)}, which is not JSON: {error}") from error


def describe_error(error: httpx.HTTPError) -> str:
    """Return in words why a request got no response."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"no connection ({error or type(error).__name__})"
    if isinstance(error, httpx.TimeoutException):
        return "no response in time"
    return f"the connection broke ({error or type(error).__name__})"


def describe_response(response: httpx.Response) -> str:
    """Return a response's status and an excerpt of its body, or of the message if it is one of vLLM's errors."""
    try:
        message = parse_json(response.content)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text
    return f"{response.status_code}: {excerpt(str(message))}"


def excerpt(text: str) -> str:
    """Return the beginning of a text, quoted."""
    return repr(text[:EXCERPT_CHARACTERS]) + ("…" if len(text) > EXCERPT_CHARACTERS else "")


def call_in_parallel(calls: Mapping[str, Callable[[], None]]) -> dict[str, str | None]:
    """Make all calls at the same time. Return the `ServerError` message of each, or None if it succeeded."""
    with ThreadPoolExecutor(max_workers=max(1, len(calls))) as threads:
        return dict(zip(calls, threads.map(_error_of, calls.values()), strict=True))


def _error_of(call: Callable[[], None]) -> str | None:
    try:
        call()
    except ServerError as error:
        return str(error)
    return None
