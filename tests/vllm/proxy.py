"""A proxy in front of a real server that spoils some of its responses as networks do."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

SLOW_S = 9.0


def send_rubbish(handler, content):
    handler.respond(200, b"<html><h1>502 Bad Gateway</h1></html>")


def truncate(handler, content):
    handler.respond(200, content[: len(content) // 2], length=len(content))
    handler.close_connection = True


def respond_slowly(handler, content):
    time.sleep(SLOW_S)
    handler.respond(200, content)


def break_off(handler, content):
    handler.close_connection = True


def fail(handler, content):
    handler.respond(503, b'{"error": {"message": "overloaded"}}')


class Proxy:
    """Forwards everything to `target`, and spoils the completions that come back."""

    def __init__(self, target, spoil):
        self.num_spoilt = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.forward("GET")

            def do_POST(self):
                self.forward("POST")

            def forward(self, method):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {"Content-Type": "application/json"}
                response = httpx.request(method, f"{target}{self.path}", content=body, headers=headers, timeout=60)
                if self.path == "/inference/v1/generate" and response.status_code == 200:
                    proxy.num_spoilt += 1
                    spoil(self, response.content)
                else:
                    self.respond(response.status_code, response.content)

            def respond(self, status, content, length=None):
                self.send_response(status)
                self.send_header("Content-Length", str(length or len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A client that has given up reads no response.
        self._server.handle_error = lambda request, address: None
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
