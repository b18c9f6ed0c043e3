"""Assign each server that plugrad starts on a CPU its share of a machine's cores, and count those left to the trainer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

BIND = "VLLM_CPU_OMP_THREADS_BIND"
PARALLEL = ("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp")


def core_environment(address: str, addresses: Sequence[str], args: Sequence[str], *, beside_trainer: bool) -> dict[str, str]:
    """Return the environment variables that bind the server at `address` to its share of its machine's cores.

    By default, vLLM binds a server's threads to all cores but one, so two servers on a machine get the same ones. Its
    workers also spin for a second after each request: a trainer on the same cores waits for them at every barrier of its
    threads. So each server gets its own cores, and a trainer beside them gets half of all.

    Nothing is set if the user has set the variable, or for a server split over several processes: for these vLLM expects a
    list of cores per process.
    """
    on_its_machine = [other for other in addresses if urlsplit(other).hostname == urlsplit(address).hostname]
    index, count = on_its_machine.index(address), len(on_its_machine)
    if BIND in os.environ or any(argument.partition("=")[0] in PARALLEL for argument in args):
        return {}
    if count == 1 and not beside_trainer:
        return {}
    cores = _cores_for_servers(count, beside_trainer)
    share = len(cores) // count
    if not share:
        return {BIND: "nobind"}
    return {BIND: ",".join(map(str, cores[index * share : (index + 1) * share]))}


def num_cores_left(environments: Iterable[Mapping[str, str]]) -> int | None:
    """Return how many cores servers with these environments leave free, or None if they are not bound to any."""
    bound = [environment[BIND].split(",") for environment in environments if environment.get(BIND, "nobind") != "nobind"]
    return len(_all_cores() - {int(core) for cores in bound for core in cores}) if bound else None


def _cores_for_servers(count: int, beside_trainer: bool) -> list[int]:
    cores = sorted(_all_cores())
    half = cores[len(cores) - len(cores) // 2 :]
    return half if beside_trainer and len(half) >= count else cores


def _all_cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
