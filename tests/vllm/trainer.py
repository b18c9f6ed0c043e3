"""A run's process: it starts two servers, one is killed under it and comes back, and then it waits to be killed itself."""

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

from plugrad.config.server import ServerTable
from plugrad.rollout.engine import Sampling
from plugrad.rollout.model import EngineModel
from plugrad.rollout.prompts import tokenize_prompts
from plugrad.rollout.servers.engine import ServerEngine
from plugrad.rollout.stops import stop_ids
from plugrad.testing.engines.evaluation import largest_mismatch
from plugrad.testing.models import tiny_model, tiny_tokenizer

NUM_PROMPTS = 48
STARTS_WITHIN_S = 120
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
        say("started", process.pid)
    weights = [(name, weight.detach()) for name, weight in model.state_dict(keep_vars=True).items()]
    engine.update_weights(weights, 0)
    examples = [{"example_id": number, "prompt": f"{number}+{number}="} for number in range(NUM_PROMPTS)]
    prompts = tokenize_prompts(examples, tokenizer, room=None)
    threading.Thread(target=kill_a_server_in_the_middle, args=(engine,)).start()
    groups = engine.generate(prompts, SAMPLING)
    say("sizes", *{len(group) for group in groups}, "groups", len(groups))
    say("mismatch", largest_mismatch(prompts, groups, model, SAMPLING.temperature))
    say("inside", num_inside(engine))
    update_until_all_are_inside(engine, weights)
    for process in descendants():
        say("started", process.pid)
    say("inside-again", num_inside(engine))
    again = engine.generate(prompts, SAMPLING)
    say("mismatch-again", largest_mismatch(prompts, again, model, SAMPLING.temperature))
    say("waits")
    time.sleep(600)


def kill_a_server_in_the_middle(engine: ServerEngine) -> None:
    first = engine._rotation.places[0]
    while not first.num_in_flight:
        time.sleep(0.001)
    time.sleep(0.2)
    say("in-flight", first.num_in_flight)
    [server] = [
        p for p in descendants() if first.address.rpartition(":")[2] in p.cmdline() and "keeper.py" not in str(p.cmdline())
    ]
    os.killpg(server.pid, signal.SIGKILL)


def update_until_all_are_inside(engine: ServerEngine, weights: list[tuple[str, torch.Tensor]]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    for version in itertools.count(1):
        engine.update_weights(weights, version)
        if num_inside(engine) == len(engine.addresses) or time.monotonic() > deadline:
            return
        time.sleep(0.5)


def num_inside(engine: ServerEngine) -> int:
    return sum(place.is_in for place in engine._rotation.places)


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def say(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
