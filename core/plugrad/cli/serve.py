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
from plugrad.cli.shared_options import SETS
from plugrad.errors import RunFileError

if TYPE_CHECKING:
    from plugrad.config.run_file import RunFile
    from plugrad.rollout.servers.command import ServerCommand

logger = logging.getLogger("plugrad")

POLL_INTERVAL_S = 1.0


def serve(
    run_file: Annotated[Path, typer.Argument(help="The run file (TOML) whose model to serve.", show_default=False)],
    overrides: Annotated[list[str] | None, SETS] = None,
    only_print: Annotated[
        bool, typer.Option("--print", help="Print the commands, to run on any machine, and start nothing.")
    ] = False,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the full traceback of an error.")] = False,
) -> None:
    """Start vLLM servers for a run with the engine vllm-server. Ctrl-C stops them.

    Starts a server for each of rollout.server.addresses on this machine. If there are no addresses, starts
    rollout.server.num_servers servers on free ports.
    """
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.config.run_file import RunFile

        loaded = RunFile.load(run_file, overrides or [])
        commands = _commands(loaded, every_machine=only_print)
        if only_print:
            _print_commands(commands, console)
        else:
            _run_servers(commands, loaded, console)


def _commands(run_file: RunFile, *, every_machine: bool) -> list[ServerCommand]:
    """Return the commands that start the servers of a run file.

    Raises:
        RunFileError: no server can load the run's model, or no server is on this machine.
        EngineError: a package for the requests to servers is not installed.
    """
    if run_file.model.name is None:
        raise RunFileError(
            "[model.from_scratch] builds the model when the run starts, so no server can load it before. Leave "
            "rollout.server.addresses empty: `plugrad train` then starts servers with the model that it has built."
        )
    if run_file.model.resize_embeddings:
        raise RunFileError(
            "model.resize_embeddings lets the embedding grow when the run starts, so no server can load the model before. "
            "Leave rollout.server.addresses empty: `plugrad train` then starts servers with the model that has grown."
        )
    from plugrad.rollout.packages import CLIENT_PACKAGES, require

    # Not vLLM: printed commands may be for other machines.
    require("vllm-server", CLIENT_PACKAGES)
    from plugrad.rollout.servers.command import server_commands
    from plugrad.rollout.servers.supervisor import find_free_addresses
    from plugrad.rollout.vllm.cpu import is_cpu

    table = run_file.rollout.server
    addresses = table.addresses or find_free_addresses(table.num_servers)
    if not every_machine:
        addresses = [address for address in addresses if _is_here(address)]
    if not addresses:
        raise RunFileError(
            f"none of the servers in rollout.server.addresses ({', '.join(table.addresses)}) is on this machine. Run the "
            "command on the machines of the servers, or run there what --print prints."
        )
    return server_commands(
        addresses,
        run_file.model.name,
        table,
        dtype=run_file.model.dtype,
        max_model_len=None,
        is_cpu=is_cpu(),
        trust_remote_code=run_file.model.trust_remote_code,
    )


def _print_commands(commands: Sequence[ServerCommand], console: Console) -> None:
    from plugrad.rollout.vllm.cpu import is_cpu

    for command in commands:
        console.print(str(command), soft_wrap=True)
    if is_cpu():
        logger.info(
            "these commands are for machines without a GPU, like this one. For a GPU, print them on a machine with one."
        )


def _is_here(address: str) -> bool:
    """Return whether a server with this address would listen on this machine."""
    try:
        found = socket.getaddrinfo(urlsplit(address).hostname, 0, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return False
    return any(_can_bind(family, host[0]) for family, _, _, _, host in found)


def _can_bind(family: int, host: str | int) -> bool:
    with socket.socket(family) as listening:
        try:
            listening.bind((host, 0))
        except OSError:
            return False
    return True


def _run_servers(commands: Sequence[ServerCommand], run_file: RunFile, console: Console) -> None:
    from plugrad.rollout.packages import require

    require("vllm-server", ["vllm"])
    from plugrad.rollout.servers.supervisor import Supervisor

    supervisor = Supervisor(commands, logs=None)
    try:
        seconds = supervisor.wait_until_healthy(run_file.rollout.server.start_timeout_s)
        addresses = ", ".join(f'"{command.address}"' for command in commands)
        console.print(f"Started in {seconds:.0f} s. In the run file:\n\n[rollout.server]\naddresses = [{addresses}]\n")
        console.print("Press Ctrl-C to stop them.")
        while True:
            supervisor.check_running()
            time.sleep(POLL_INTERVAL_S)
    except KeyboardInterrupt:
        console.print("Stopping.")
    finally:
        supervisor.close()
