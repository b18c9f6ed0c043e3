"""`plugrad serve`: start the vLLM servers of a run file, and keep them running."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

from plugrad.cli.reporting import reporting
from plugrad.cli.train import SETS
from plugrad.errors import RunFileError

if TYPE_CHECKING:
    from plugrad.config.run_file import RunFile
    from plugrad.rollout.servers.command import ServerCommand

logger = logging.getLogger("plugrad")

LOOKS_EVERY_S = 1.0


def serve(
    run_file: Annotated[Path, typer.Argument(help="The run file (TOML) whose model they serve.", show_default=False)],
    overrides: Annotated[list[str] | None, SETS] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the commands, to be run anywhere; start nothing.")
    ] = False,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the whole of an error.")] = False,
) -> None:
    """Start vLLM servers as a run with the engine vllm-server needs them. Ctrl-C stops them.

    One for each of rollout.server.addresses that is on this machine; without any, rollout.server.num_servers of them on free
    ports.
    """
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.config.run_file import RunFile

        read = RunFile.load(run_file, overrides or [])
        commands = _commands(read, every_machine=only_print)
        if only_print:
            for command in commands:
                console.print(str(command), soft_wrap=True)
            if _is_cpu():
                logger.info(
                    "these are for machines without a GPU, as this one: print them on one that has what theirs have."
                )
        else:
            _run(commands, read, console)


def _commands(run_file: RunFile, *, every_machine: bool) -> list[ServerCommand]:
    """Return what starts the servers of a run file.

    Raises:
        RunFileError: there is no model for a server to load, or none of the servers is here.
        EngineError: what asks servers is not installed.
    """
    if run_file.model.name is None:
        raise RunFileError(
            "[model.from_scratch] builds a model when the run starts, so no server can be started for it before. Leave "
            "rollout.server.addresses empty: `plugrad train` then starts servers with the model that it has built."
        )
    from plugrad.rollout.packages import OF_A_CLIENT, require

    # vLLM is for whoever starts them: printed commands may be for other machines.
    require("vllm-server", OF_A_CLIENT)
    from plugrad.rollout.servers.command import server_commands
    from plugrad.rollout.servers.supervisor import free_addresses

    table = run_file.rollout.server
    addresses = table.addresses or free_addresses(table.num_servers)
    if not every_machine:
        addresses = [address for address in addresses if _is_here(address)]
    if not addresses:
        raise RunFileError(
            f"none of the servers in rollout.server.addresses ({', '.join(table.addresses)}) is on this machine. Run this "
            "where they are to be, or take their commands from --print."
        )
    return server_commands(
        addresses,
        run_file.model.name,
        table,
        dtype=run_file.model.dtype,
        max_model_len=None,
        is_cpu=_is_cpu(),
    )


def _is_cpu() -> bool:
    import torch

    return not torch.accelerator.is_available()


def _is_here(address: str) -> bool:
    """Return whether a server with this address would listen on this machine."""
    try:
        found = socket.getaddrinfo(urlsplit(address).hostname, 0, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return False
    return any(_can_bind(family, place[0]) for family, _, _, _, place in found)


def _can_bind(family: int, host: str | int) -> bool:
    with socket.socket(family) as listening:
        try:
            listening.bind((host, 0))
        except OSError:
            return False
    return True


def _run(commands: Sequence[ServerCommand], run_file: RunFile, console: Console) -> None:
    from plugrad.rollout.packages import require

    require("vllm-server", ["vllm"])
    from plugrad.rollout.servers.supervisor import ServerProcesses

    processes = ServerProcesses(commands, logs=None)
    try:
        seconds = processes.wait_until_well(run_file.rollout.server.start_timeout_s)
        addresses = ", ".join(f'"{command.address}"' for command in commands)
        console.print(f"Up after {seconds:.0f} s. In the run file:\n\n[rollout.server]\naddresses = [{addresses}]\n")
        console.print("Ctrl-C stops them.")
        while True:
            processes.check()
            time.sleep(LOOKS_EVERY_S)
    except KeyboardInterrupt:
        console.print("Stopping.")
    finally:
        processes.close()
