"""Answers of a server that are nonsense, endless, or never finished: failed answers of that server, and errors of ours."""

import json
import time

import pytest

from plugrad.errors import EngineError
from plugrad.rollout.servers.server import Server, ServerError

from .conftest import good_response

GIVES_UP_S = 20
"""Far more than any of these takes; without a limit, they would take for ever."""


def spans(*each):
    def behave(handler, body):
        response = good_response(body)
        for choice in response["choices"]:
            choice["weight_versions"] = [{"version": version, "start": start, "end": end} for version, start, end in each]
        handler.answer(response)

    return behave


def send(content):
    return lambda handler, body: handler.answer(content)


def drip(handler, body):
    """Send a byte now and then, for as long as somebody reads."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    write_for_ever(handler, b" ", 0.05)


def drip_headers(handler, body):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    write_for_ever(handler, b"X-A: b\r\n", 0.05)


def never_end(handler, body):
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    write_for_ever(handler, b" " * 2**20, 0.0)


def write_for_ever(handler, piece, pause_s):
    handler.close_connection = True
    started = time.monotonic()
    while time.monotonic() - started < GIVES_UP_S:
        handler.wfile.write(piece)
        time.sleep(pause_s)


NONSENSE = {
    "nested too deep": send(b"[" * 200_000),
    "nested too deep within": send(b'{"choices": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "a number too long": send(b'{"choices": [{"index": ' + b"9" * 5000 + b"}]}"),
    "not UTF-8": send(b'{"choices": "\xff\xfe"}'),
    "NULs": send(b"\0" * 1000),
    "nothing": send(b""),
    "an endless body": never_end,
    "spans far outside the tokens": spans(("run-0", 0, 10**15)),
    "a span that ends before it starts": spans(("run-0", 0, -5)),
    "a span at a huge place": spans(("run-0", 10**30, 10**30)),
    "no spans": spans(),
    "a version of 5,000 digits": spans(("run-" + "9" * 5000, 0, 3)),
    "a version in other digits": spans(("run-\N{ARABIC-INDIC DIGIT ZERO}", 0, 3)),
    "a label of a megabyte": spans(("x" * 2**20, 0, 3)),
    "escape sequences": spans(("\x1b[2J", 0, 3)),
    "a drip": drip,
    "a drip of headers": drip_headers,
}


@pytest.mark.parametrize("behave", NONSENSE.values(), ids=NONSENSE)
def test_another_server_answers_instead(listen, client_of, behave):
    bad, good = listen(behave), listen()
    client = client_of(bad.address, good.address, timeout_s=1.0)
    [group] = client.ask(1)
    assert len(group) == 2
    assert len(good.bodies) == 1


@pytest.mark.parametrize("behave", NONSENSE.values(), ids=NONSENSE)
def test_without_another_one_the_server_is_named(listen, client_of, behave):
    bad = listen(behave)
    with pytest.raises(EngineError) as caught:
        client_of(bad.address, timeout_s=1.0, retries=0).ask(1)
    assert bad.address in str(caught.value)
    assert len(str(caught.value)) < 3000
    assert "\x1b" not in str(caught.value)


OF_OTHER_ROUTES = [name for name in NONSENSE if "span" not in name and "version" not in name and "label" not in name]


@pytest.mark.parametrize("name", [name for name in OF_OTHER_ROUTES if name not in ("nothing", "escape sequences")])
def test_the_other_routes_have_the_same_limits(listen, name):
    server = Server(listen(NONSENSE[name]).address, {}, timeout_s=1.0)
    with pytest.raises(ServerError):
        server.get("/server_info")
    with pytest.raises(ServerError):
        server.weight_label()
    server.close()


@pytest.mark.parametrize("content", [b"[" * 200_000, b"9" * 5000, b"\xff", b"", json.dumps({"error": "no"}).encode()])
def test_an_error_with_nonsense_in_it_is_an_error(listen, content):
    server = Server(listen(lambda handler, body: handler.answer(content, 500)).address, {}, timeout_s=5.0)
    with pytest.raises(ServerError, match="500"):
        server.get("/health")
    server.close()
