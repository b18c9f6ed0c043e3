"""A process that has imported what workers need, and forks one for each request.

It imports no component and starts no thread, so a worker that it forks is as good as a new process, and seconds faster.
Only on Linux: elsewhere, system libraries do not survive a fork without an exec.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from plugrad.quick_imports import without_collections

REQUEST, OUTPUT, ERRORS = "request.json", "output", "errors"
"""The files of a worker: what it is to do, and what it has printed."""
LONGEST = 1 << 16


def can_fork() -> bool:
    """Return whether processes can be forked here."""
    return sys.platform == "linux"


def connection() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection to a nursery."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def serve(requests: socket.socket, modules: Sequence[str] = ()) -> NoReturn:
    """Import the modules, then serve requests until the other end is closed.

    A request is the folder of a worker, with a file for the news of it, or a list of modules, with a connection: fork a
    nursery that has imported these too.
    """
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with without_collections():
            for module in modules:
                importlib.import_module(module)
        # The system forgets the processes that have ended.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            message, files, _, _ = socket.recv_fds(requests, LONGEST, 1)
            if not message:
                os._exit(0)
            asked = json.loads(message)
            if os.fork() == 0:
                requests.close()
                if isinstance(asked, list):
                    serve(socket.socket(fileno=files[0]), asked)
                _supervise(Path(asked), files[0])
            os.close(files[0])
    finally:
        os._exit(1)


def _supervise(folder: Path, news: int) -> NoReturn:
    """Fork a worker. Write its process's number, and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    worker = os.fork()
    if worker == 0:
        os.close(news)
        _become(folder)
    os.write(news, f"{worker}\n".encode())
    _, status = os.waitpid(worker, 0)
    os.write(news, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(folder: Path) -> NoReturn:
    """Write what is printed into the worker's files, and do what the request asks."""
    from plugrad.trainer.ranks.rank_exit import run_as_rank

    files = ((os.devnull, os.O_RDONLY), (str(folder / OUTPUT), os.O_WRONLY), (str(folder / ERRORS), os.O_WRONLY))
    for stream, (file, flags) in enumerate(files):
        opened = os.open(file, flags)
        os.dup2(opened, stream)
        os.close(opened)
    run_as_rank(lambda: _do(json.loads((folder / REQUEST).read_text(encoding="utf-8"))))


def _do(asked: dict[str, Any]) -> None:
    """Take over the environment, the path and the folder, and call the module's main function."""
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[:] = asked["path"]
    importlib.invalidate_caches()
    os.chdir(asked["folder"])
    importlib.import_module(asked["module"]).main(asked["arguments"])


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
