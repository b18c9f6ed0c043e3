"""A network for the tests: HTTP servers in threads with any behaviour, right or wrong."""

import json
import socket
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from plugrad.config.tables.server_table import ServerTable
from plugrad.rollout.engine import Prompt, Sampling
from plugrad.rollout.servers.balancer import Balancer
from plugrad.rollout.servers.client import Client
from plugrad.rollout.servers.event_loop import EventLoopThread
from plugrad.rollout.servers.request import requests_for
from plugrad.rollout.servers.server import ServerError
from plugrad.rollout.servers.weight_labels import WeightLabels

LABELS = WeightLabels("run")
STOP = 2


def good_response(body, *, label=None, tokens=(5, 6, STOP)):
    """Return a response to `body` in the form that vLLM 0.32 uses."""
    choice = {
        "finish_reason": "stop",
        "token_ids": list(tokens),
        "weight_versions": [{"version": label or body["cache_salt"], "start": 0, "end": len(tokens)}],
        "logprobs": {"content": [{"token_id": token, "logprob": -0.5, "rank": 1} for token in tokens]},
    }
    return {"choices": [{"index": index, **choice} for index in range(body["sampling_params"]["n"])]}


class Listener:
    """An HTTP server; `behave(handler, body)` answers a request."""

    def __init__(self, behave):
        self.bodies, self.headers, self.most_at_once, self._at_once = [], [], 0, 0
        lock, listener = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                behave(self, None)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                with lock:
                    listener.bodies.append(body)
                    listener.headers.append(dict(self.headers))
                    listener._at_once += 1
                    listener.most_at_once = max(listener.most_at_once, listener._at_once)
                try:
                    behave(self, body)
                finally:
                    with lock:
                        listener._at_once -= 1

            def answer(self, content, status=200, length=None):
                content = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(length or len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # A client that has given up reads no response.
        self._server.handle_error = lambda request, address: None
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def listen():
    """Start a listener with some behaviour; by default it responds correctly."""
    listeners = []

    def start(behave=lambda handler, body: handler.answer(good_response(body))):
        listeners.append(Listener(behave))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.close()


@pytest.fixture
def dead_address():
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def client_of(monkeypatch):
    """Make a client of servers that all have the weights of version 0. Its `ask` sends it requests."""
    monkeypatch.setattr("plugrad.rollout.servers.client.FIRST_WAIT_S", 0.001)
    loop = EventLoopThread()
    clients = []

    def make(*addresses, revive=None, headers=(), may_lag=False, **options):
        balancer = Balancer.of(addresses)
        client = Client(balancer, LABELS, ServerTable(**options), dict(headers), revive or stay_inactive, may_lag=may_lag)
        clients.append(client)
        client.version = 0
        balancer.apply_update(dict.fromkeys(addresses))
        client.ask = lambda *args, **kwargs: loop.run(partial(client.complete, make_requests(*args, **kwargs)))
        client.balancer = balancer
        client.tell = lambda version: loop.run(partial(client.announce, version))
        return client

    yield make
    for client in clients:
        loop.run(client.close)
    loop.close(do_nothing)


def stay_inactive(address, version, may_load):
    raise ServerError("it is still inactive")


async def do_nothing():
    pass


def make_requests(num_prompts=1, *, num_completions=2, max_new_tokens=3, temperature=1.0, seed=0):
    """Return requests for some prompts."""
    prompts = [Prompt("p", [7, number], {}) for number in range(num_prompts)]
    sampling = Sampling(num_completions, max_new_tokens, temperature, seed)
    return requests_for(prompts, sampling, stops=frozenset({STOP}), vocab_size=10)
