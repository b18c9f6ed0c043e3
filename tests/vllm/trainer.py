"""A run's process: it starts two servers, one is killed under it, and then it waits to be killed itself."""

from __future__ import annotations

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
    engine.update_weights([(name, weight.detach()) for name, weight in model.state_dict(keep_vars=True).items()], 0)
    examples = [{"example_id": number, "prompt": f"{number}+{number}="} for number in range(NUM_PROMPTS)]
    prompts = tokenize_prompts(examples, tokenizer, room=None)
    threading.Thread(target=kill_a_server_in_the_middle, args=(engine,)).start()
    groups = engine.generate(prompts, SAMPLING)
    say("sizes", *{len(group) for group in groups}, "groups", len(groups))
    say("mismatch", largest_mismatch(prompts, groups, model, SAMPLING.temperature))
    say("inside", sum(place.is_in for place in engine._rotation.places))
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


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def say(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
