"""A run's process: it starts two servers, kills them, and then waits to be killed itself."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import torch

from plugrad.config.tables.server_table import ServerTable
from plugrad.rollout.engine import Sampling
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.prompts import tokenize_prompts
from plugrad.rollout.servers.server_engine import ServerEngine
from plugrad.rollout.stops import stop_ids
from plugrad.testing.engines.engine_trial import largest_mismatch
from plugrad.testing.models import tiny_model, tiny_tokenizer

NUM_PROMPTS = 48
STARTS_WITHIN_S = 300
SAMPLING = Sampling(num_completions=4, max_new_tokens=96, temperature=1.0, seed=2)


def main(folder: Path) -> None:
    model, tokenizer = tiny_model(head_dim=32), tiny_tokenizer()
    model.config.architectures = [type(model).__name__]
    engine = ServerEngine(
        ServerTable(num_servers=2, kv_cache_gib=0.25, concurrency=16),
        EngineModel(None, model.config, tokenizer, torch.float32, stop_ids(model, tokenizer), 256),
        folder=folder,
    )
    for process in descendants():
        report("started", process.pid)
    weights = [(name, weight.detach()) for name, weight in model.state_dict(keep_vars=True).items()]
    engine.update_weights(weights, 0)
    examples = [{"example_id": number, "prompt": f"{number}+{number}="} for number in range(NUM_PROMPTS)]
    prompts = tokenize_prompts(examples, tokenizer, room=None)
    for batch in range(2):
        threading.Thread(target=kill_a_server_in_the_middle, args=(engine, batch)).start()
        groups = engine.generate(prompts, SAMPLING)
        report(f"sizes-{batch}", *{len(group) for group in groups}, "groups", len(groups))
        report(f"mismatch-{batch}", largest_mismatch(prompts, groups, model, SAMPLING.temperature))
        report(f"active-{batch}", num_active(engine))
    for server in engine._balancer.servers:
        kill(server.address)
    engine.update_weights(weights, 1)
    update_until_all_are_active(engine, weights)
    for process in descendants():
        report("started", process.pid)
    report("active-again", num_active(engine))
    again = engine.generate(prompts, SAMPLING)
    report("mismatch-again", largest_mismatch(prompts, again, model, SAMPLING.temperature))
    report("waits")
    time.sleep(600)


def kill_a_server_in_the_middle(engine: ServerEngine, number: int) -> None:
    server = engine._balancer.servers[number]
    while not server.num_in_flight:
        time.sleep(0.001)
    time.sleep(0.2)
    report(f"in-flight-{number}", server.num_in_flight)
    kill(server.address)


def kill(address: str) -> None:
    port = address.rpartition(":")[2]
    [server] = [p for p in descendants() if port in (command := command_of(p)) and "die_with_parent.py" not in str(command)]
    os.killpg(server.pid, signal.SIGKILL)


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        # It exits just now, or is a zombie.
        return []


def update_until_all_are_active(engine: ServerEngine, weights: list[tuple[str, torch.Tensor]]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    for version in itertools.count(2):
        engine.update_weights(weights, version)
        if num_active(engine) == len(engine.addresses) or time.monotonic() > deadline:
            return
        time.sleep(0.5)


def num_active(engine: ServerEngine) -> int:
    return sum(server.is_active for server in engine._balancer.servers)


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def report(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
