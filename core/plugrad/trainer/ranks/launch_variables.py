"""The variables by which a launcher tells a process its rank: numbers, whole, and of a host that exists."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from plugrad.errors import RunFileError
from plugrad.shown import shown

NUMBERS = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": -1, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": 0}
"""The variables with numbers, and the smallest of each. Accelerate's own value for "no launcher" is a LOCAL_RANK of -1."""
OF_SEVERAL = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LAST_PORT = 65535
REMEDY = "Unset the variables to train in one process, or start plugrad with --num-processes, torchrun or accelerate launch."


def check_launch_variables(variables: Mapping[str, str] = os.environ) -> None:
    """Check what a launcher has set, before anything waits for other processes.

    Raises:
        RunFileError: a variable is no number, or out of range, or missing, or names no host.
    """
    numbers = {name: _number(name, variables[name], least) for name, least in NUMBERS.items() if name in variables}
    size = numbers.get("WORLD_SIZE", 1)
    if size == 1:
        return
    missing = [name for name in OF_SEVERAL if name not in variables]
    if missing:
        raise RunFileError(
            f"WORLD_SIZE is {size} in the environment, without {' and '.join(missing)}: no launcher has started this "
            f"process. {REMEDY}"
        )
    if numbers["RANK"] >= size:
        raise RunFileError(
            f"RANK is {numbers['RANK']} in the environment, and WORLD_SIZE is {size}: ranks count from 0. {REMEDY}"
        )
    if numbers["MASTER_PORT"] > LAST_PORT:
        raise RunFileError(
            f"MASTER_PORT is {numbers['MASTER_PORT']} in the environment: a port is at most {LAST_PORT}. {REMEDY}"
        )
    _check_host(variables["MASTER_ADDR"], numbers["MASTER_PORT"])


def _number(name: str, text: str, least: int) -> int:
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10 and int(text) >= least):
        raise RunFileError(f"{name} is {shown(text)} in the environment, which is no number of at least {least}. {REMEDY}")
    return int(text)


def _check_host(name: str, port: int) -> None:
    try:
        socket.getaddrinfo(name, port)
    except (OSError, UnicodeError) as error:
        raise RunFileError(
            f"MASTER_ADDR is {shown(name)} in the environment, which names no host that this machine knows: {error}. "
            f"{REMEDY}"
        ) from error
