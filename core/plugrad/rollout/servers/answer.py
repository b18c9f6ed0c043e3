"""Read a server's answer within limits: of its size, and of the time until its last byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx

MIB = 2**20
MAX_BYTES = 64 * MIB
"""Of an answer that has no tokens."""
BYTES_OF_A_TOKEN = 1024
"""Many times what vLLM writes about one: its id, its log-prob, and its text."""


class AnswerTooLong(Exception):
    """A server's answer has more bytes than any right one could have."""


async def read_answer(response: httpx.Response, max_bytes: int) -> httpx.Response:
    """Return the response with its body, which a stream leaves to be read.

    Raises:
        AnswerTooLong: it has more than `max_bytes`. The rest is not read.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        _append(body, chunk, max_bytes)
    return httpx.Response(response.status_code, content=bytes(body))


def read_answer_now(response: httpx.Response, max_bytes: int) -> httpx.Response:
    """Do the same without an event loop."""
    body = bytearray()
    for chunk in response.iter_bytes():
        _append(body, chunk, max_bytes)
    return httpx.Response(response.status_code, content=bytes(body))


@contextmanager
def connections_end_after(seconds: float) -> Iterator[Mapping[str, Any]]:
    """Yield the `extensions` of an httpx request whose connections are shut down after `seconds`, whatever it waits for.

    The timeouts of httpx count from one byte to the next, so a server that drips could keep a thread for ever.

    Raises:
        httpx.ReadTimeout: they were.
    """
    sockets: list[socket.socket] = []
    expired = threading.Event()

    def note(event: str, info: Mapping[str, Any]) -> None:
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            sockets.append(info["return_value"].get_extra_info("socket"))

    def end() -> None:
        expired.set()
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield {"trace": note}
    except httpx.HTTPError as error:
        if expired.is_set():
            raise httpx.ReadTimeout(f"the answer was not complete within {seconds:g} s") from error
        raise
    finally:
        timer.cancel()


def _append(body: bytearray, chunk: bytes, max_bytes: int) -> None:
    if len(body) + len(chunk) > max_bytes:
        raise AnswerTooLong(f"its answer has more than {max_bytes / MIB:.0f} MiB, which no right answer has")
    body += chunk
