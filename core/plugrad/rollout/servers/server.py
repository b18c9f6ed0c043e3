"""One vLLM server as a run directs it: what it serves, which weights it has, and how it is given new ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from plugrad.rollout.servers.weight_labels import Labels

EXCERPT = 200
CONNECT_TIMEOUT_S = 10.0
DENIED = (401, 403)
DIRECT: dict[str, None] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
"""What a proxy in the environment is not asked for: it would look for this machine's servers on its own."""


class ServerError(Exception):
    """A server cannot be reached, or refuses what it is asked."""

    def __init__(self, said: str, status: int | None = None) -> None:
        super().__init__(said)
        self.status = status
        """Of HTTP, where it answered."""


class Server:
    """A server's own routes. Those that pause it and change its weights exist in vLLM's development mode alone."""

    def __init__(self, address: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self.address = address
        self._http = httpx.Client(
            base_url=address,
            headers=dict(headers),
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            # vLLM closes a connection after an error, and these calls are few: each has its own.
            limits=httpx.Limits(max_keepalive_connections=0),
            mounts=DIRECT,
        )

    def get(self, path: str, **parameters: str) -> Any:
        """Return what the server answers, as JSON; None for an empty body.

        Raises:
            ServerError: it cannot be reached, or answers with an error or with something else.
        """
        return self._call("GET", path, parameters, None)

    def post(self, path: str, body: Any = None, **parameters: str) -> Any:
        """Return what the server answers, as `get` does."""
        return self._call("POST", path, parameters, body)

    def label(self) -> str:
        """Return what the server's weights are called.

        Raises:
            ServerError: it does not say.
        """
        said = self.get("/weight_info")
        if not isinstance(said, dict) or "weight_version" not in said:
            raise ServerError(f"it does not say what its weights are called, but {excerpt(str(said))}")
        return str(said["weight_version"])

    @contextmanager
    def taking(self, label: str, labels: Labels) -> Iterator[None]:
        """Let the server take new weights inside. Requests in flight wait, and go on with the new ones.

        From the first changed weight to the last, the label says so: should anything end in between, no token that such a
        server samples passes for the policy's.
        """
        try:
            self.post("/pause", mode="keep")
            self.post("/update_weight_version", {"new_version": labels.unfinished})
            yield
            if (found := self.label()) != labels.unfinished:
                raise ServerError(
                    f"its weights became {found!r} meanwhile: another run hands it its own. Give each run servers of its own"
                )
            # What the old weights made of the requests in flight is computed anew.
            self.post("/reset_prefix_cache", reset_running_requests="true")
            self.post("/update_weight_version", {"new_version": label})
        except BaseException:
            with suppress(ServerError):
                self.post("/resume")
            raise
        self.post("/resume")

    def load(self, folder: Path) -> None:
        """Load the weights in a folder, in place. Only inside `taking`."""
        try:
            # A server that was started without weights has a loader that cannot read any.
            self._on_workers("update_config", overrides={"load_config": {"load_format": "auto"}})
            self._on_workers("reload_weights", weights_path=str(folder))
        except ServerError as error:
            raise ServerError(
                f"it did not load the weights in {folder}: {error}. It must see that folder by this name (rollout.server."
                "weights_folder). If it does, it has another model: its log says more, and it loads no others before it is "
                "restarted",
                error.status,
            ) from error

    def close(self) -> None:
        """Close what connections there are."""
        self._http.close()

    def _on_workers(self, method: str, **arguments: Any) -> None:
        self.post("/collective_rpc", {"method": method, "kwargs": arguments})

    def _call(self, method: str, path: str, parameters: Mapping[str, str], body: Any) -> Any:
        try:
            response = self._http.request(method, path, params=parameters, json=body)
        except httpx.HTTPError as error:
            raise ServerError(said_by(error)) from error
        if not response.is_success:
            raise ServerError(f"it answered {method} {path} with {said_in(response)}", response.status_code)
        try:
            return response.json() if response.content else None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ServerError(f"it answered {method} {path} with {excerpt(response.text)}, which is not JSON") from error


def said_by(error: httpx.HTTPError) -> str:
    """Return what became of a request, in words."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"no connection ({error or type(error).__name__})"
    if isinstance(error, httpx.TimeoutException):
        return "it has not answered in time"
    return f"the connection broke ({error or type(error).__name__})"


def said_in(response: httpx.Response) -> str:
    """Return an answer's status and its beginning; of vLLM's own errors the message."""
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text
    return f"{response.status_code}: {excerpt(str(message))}"


def excerpt(text: str) -> str:
    """Return the beginning of a text, quoted."""
    return repr(text[:EXCERPT]) + ("…" if len(text) > EXCERPT else "")


def all_at_once(tries: Mapping[str, Callable[[], None]]) -> dict[str, str | None]:
    """Try all at the same time; return what each was refused with, or None where it went well."""
    with ThreadPoolExecutor(max_workers=max(1, len(tries))) as threads:
        return dict(zip(tries, threads.map(_complaint, tries.values()), strict=True))


def _complaint(attempt: Callable[[], None]) -> str | None:
    try:
        attempt()
    except ServerError as error:
        return str(error)
    return None
