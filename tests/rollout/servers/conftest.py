"""A network to ask: HTTP servers in threads that answer as they are told to, rightly or not."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from plugrad.config.tables.server_table import ServerTable
from plugrad.rollout.engine import Prompt, Sampling
from plugrad.rollout.servers.balancer import Rotation
from plugrad.rollout.servers.client import Client
from plugrad.rollout.servers.event_loop import LoopThread
from plugrad.rollout.servers.request import requests_for
from plugrad.rollout.servers.weight_labels import Labels

LABELS = Labels("run")
STOP = 2


def right_answer(body, *, label=None, tokens=(5, 6, STOP)):
    """What a server answers to `body`, in the form that vLLM 0.32 was seen to use."""
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
        # Whoever has given up waiting reads no answer.
        self._server.handle_error = lambda request, address: None
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def listen():
    """Start a listener that behaves so; by default it answers rightly."""
    listeners = []

    def start(behave=lambda handler, body: handler.answer(right_answer(body))):
        listeners.append(Listener(behave))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.close()


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def client_of(monkeypatch):
    """Make a client of servers that all have the weights of version 0, and a function that asks it."""
    monkeypatch.setattr("plugrad.rollout.servers.client.FIRST_WAIT_S", 0.001)
    loop = LoopThread("test")
    clients = []

    def make(*addresses, revive=None, headers=(), **options):
        def stays_out(address, version, may_load):
            from plugrad.rollout.servers.server import ServerError

            raise ServerError("it is still out")

        rotation = Rotation.of(addresses)
        client = Client(rotation, LABELS, ServerTable(**options), dict(headers), revive or stays_out)
        clients.append(client)
        client.version = 0
        rotation.after_update(dict.fromkeys(addresses))
        client.ask = lambda *args, **kwargs: loop.run(client.complete(asked(*args, **kwargs)))
        client.rotation = rotation
        return client

    yield make
    for client in clients:
        loop.run(client.close())
    loop.close(nothing())


async def nothing():
    pass


def asked(num_prompts=1, *, num_completions=2, max_new_tokens=3, temperature=1.0, seed=0):
    """Requests for some prompts."""
    prompts = [Prompt("p", [7, number], {}) for number in range(num_prompts)]
    sampling = Sampling(num_completions, max_new_tokens, temperature, seed)
    return requests_for(prompts, sampling, stops=frozenset({STOP}), vocab_size=10)
