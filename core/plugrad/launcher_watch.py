"""A rank ends with its launcher, from its first moment on: nobody could stop it any more, or read its exit code.

This is imported before everything else, so it imports little.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from contextlib import suppress

LAUNCHER = "PLUGRAD_LAUNCHER"
"""The variable by which plugrad's own launcher tells the ranks its process."""
LAUNCH_FOLDER = "PLUGRAD_LAUNCH_FOLDER"
"""The variable by which it names the folder for the files of the ranks. It reads them at the end."""
ELASTIC = "TORCHELASTIC_RUN_ID"
"""Set by torchrun and by Accelerate's launcher, whose ranks are their children too."""
LOOK_EVERY_S = 0.25
LAST_STEP_S = 300.0
"""How long a rank whose launcher is gone may take to finish its step and to save the model."""
GONE = "Note: the launcher of this run is gone, so the run stops: after this step, with the model saved, if it is in one.\n"


def end_with_launcher() -> None:
    """Watch the launcher, if there is one. Once it is gone, this process gets SIGTERM, and ends if that does not end it."""
    # Processes that this one starts have another parent.
    given = os.environ.pop(LAUNCHER, None)
    if given is None and ELASTIC not in os.environ:
        return
    launcher = os.getppid() if given is None else int(given)
    threading.Thread(target=_watch, args=(launcher,), name="plugrad-launcher-watch", daemon=True).start()
    _Watched.is_so = True


def is_watched() -> bool:
    """Return whether this process ends with its launcher."""
    return _Watched.is_so


class _Watched:
    is_so = False


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(LOOK_EVERY_S)
    folder = os.environ.get(LAUNCH_FOLDER)
    if folder:
        # The launcher could not do so itself. Whoever has opened the files keeps them.
        shutil.rmtree(folder, ignore_errors=True)
    if os.environ.get("RANK") == "0":
        # The terminal may be gone too.
        with suppress(OSError):
            os.write(2, GONE.encode())
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_STEP_S)
    os._exit(1)
