"""`plugrad report --watch`: serve the report to this machine alone, rendered anew when a run has grown."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from plugrad.errors import PlugradError, RunFileError
from plugrad.paths import expanded
from plugrad.report.report_page import error_html, report_html
from plugrad.report.reported_run import RECORDS
from plugrad.trainer.capture.later_captures import CAPTURES

LOOPBACK = "127.0.0.1"


class WatchedRuns:
    """The report on some runs, as it is now."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = [expanded(folder) for folder in folders]
        self._lock = Lock()
        self._version = self._page = ""

    def version(self) -> str:
        """Return what stands for the present state of the folders."""
        files = [folder / name for folder in self.folders for name in (*RECORDS, CAPTURES)]
        return sha256("\n".join(map(_state_of, files)).encode()).hexdigest()[:16]

    def page(self) -> str:
        """Return the report, or what is wrong with a folder."""
        # One at a time: two tabs would render the same page twice.
        with self._lock:
            version = self.version()
            if version != self._version:
                try:
                    self._page = report_html(self.folders, version=version)
                except PlugradError as error:
                    self._page = error_html(str(error), version)
                self._version = version
            return self._page


class ReportServer(ThreadingHTTPServer):
    """A server that only this machine reaches."""

    daemon_threads = True

    def __init__(self, runs: WatchedRuns, port: int) -> None:
        super().__init__((LOOPBACK, port), _Handler)
        self.runs = runs

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{LOOPBACK}:{self.server_port}/"


def report_server(folders: Sequence[Path], port: int = 0) -> ReportServer:
    """Open a server for the report on some runs.

    Raises:
        RunFileError: there is no run to watch, or the port is taken.
    """
    runs = WatchedRuns(folders)
    absent = next((folder for folder in runs.folders if not folder.is_dir()), None)
    if absent:
        raise RunFileError(f"there is no folder {absent} to watch. Start the run first, or correct the name.")
    try:
        return ReportServer(runs, port)
    except OSError as error:
        raise RunFileError(f"port {port} of {LOOPBACK} cannot be opened: {error}. Pass another --port, or none.") from error


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer

    def do_GET(self) -> None:
        # A page elsewhere could let its own name point here, and read the answers.
        if self.headers.get("Host", "").rpartition(":")[0] not in (LOOPBACK, "localhost"):
            self.send_error(403)
        elif self.path == "/version":
            self._answer(self.server.runs.version(), "text/plain")
        elif self.path == "/":
            self._answer(self.server.runs.page(), "text/html")
        else:
            self.send_error(404)

    def _answer(self, text: str, kind: str) -> None:
        content = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""


def _state_of(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "absent"
    return f"{found.st_mtime_ns} {found.st_size}"
