"""On which cores of a CPU servers compute, and how many are left to the trainer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

BIND = "VLLM_CPU_OMP_THREADS_BIND"
PARALLEL = ("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp")


def cores_of(address: str, addresses: Sequence[str], args: Sequence[str], *, beside_trainer: bool) -> dict[str, str]:
    """Return what binds the server at an address to its share of the cores of its machine.

    vLLM binds a server's threads to all cores but one, and so two servers of a machine to the same ones. And its workers
    spin for a second after each request: a trainer that computes on the same cores waits for them at every barrier of its
    threads. So each server has cores of its own, and the trainer beside them half of all. Nothing is said where somebody
    has chosen, nor of a server that is split over processes, for which vLLM wants a list each.
    """
    on_its_machine = [other for other in addresses if urlsplit(other).hostname == urlsplit(address).hostname]
    number, count = on_its_machine.index(address), len(on_its_machine)
    if BIND in os.environ or any(argument.partition("=")[0] in PARALLEL for argument in args):
        return {}
    if count == 1 and not beside_trainer:
        return {}
    cores = _of_servers(count, beside_trainer)
    share = len(cores) // count
    if not share:
        return {BIND: "nobind"}
    return {BIND: ",".join(map(str, cores[number * share : (number + 1) * share]))}


def cores_left(environments: Iterable[Mapping[str, str]]) -> int | None:
    """Return how many cores servers with these environments leave to others; None where they are bound to none."""
    bound = [environment[BIND].split(",") for environment in environments if environment.get(BIND, "nobind") != "nobind"]
    return len(_cores() - {int(core) for cores in bound for core in cores}) if bound else None


def _of_servers(count: int, beside_trainer: bool) -> list[int]:
    cores = sorted(_cores())
    half = cores[len(cores) - len(cores) // 2 :]
    return half if beside_trainer and len(half) >= count else cores


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
