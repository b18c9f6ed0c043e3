"""An adapter to vLLM after each update: merged into whole weights, or through vLLM's own LoRA: `bench_vllm -- adapters`.

Each way has an engine of its own in this process, one after the other, on a model of 6 layers of 512 (19 million weights).
The samples of both are compared with the trainer's log-probs.
"""

import argparse
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import torch
from measuring import new_table, seconds_of, show
from vllm_engines import MODELS, prompts_of

from plugrad.config.tables.lora_table import LoraTable
from plugrad.config.tables.model_table import ModelTable
from plugrad.config.tables.vllm_table import VllmTable
from plugrad.policy.adapter_folder import save_adapter
from plugrad.policy.adapter_layers import adapter_tensors, base_tensors
from plugrad.policy.loading import LoadedModel, load_model
from plugrad.rollout.engine import Sampling
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.stops import stop_ids
from plugrad.rollout.vllm.vllm_engine import VllmEngine
from plugrad.testing.engines.engine_trial import largest_mismatch
from plugrad.trainer.update.policy_weights import PolicyWeights

NUM_PROMPTS, GROUP, MAX_NEW_TOKENS = 16, 8, 16
FIELDS = MODELS["6 layers of 512 (19 million)"]
Way = Callable[[VllmEngine, LoadedModel, Path], Callable[[], None]]
"""Gives an engine's update of a model's adapter; the folder is for its files."""


def loaded_model(rank: int) -> LoadedModel:
    """Build the model with an adapter, which has already moved."""
    table = ModelTable(from_scratch={"model_type": "qwen3", **FIELDS}, lora=LoraTable(r=rank))
    loaded = load_model(table, ["0123456789+=\n"])
    move(loaded)
    return loaded


@torch.no_grad()
def move(loaded: LoadedModel) -> None:
    """Move the adapter, as an update does."""
    for weight in adapter_tensors(loaded.model).values():
        weight.add_(torch.randn_like(weight) * 0.02)


def opened(loaded: LoadedModel, **options: object) -> VllmEngine:
    """Start vLLM for the model."""
    table = VllmTable(kv_cache_gib=0.25, kwargs=options)
    stops = stop_ids(loaded.model, loaded.tokenizer)
    known = EngineModel(None, loaded.model.config, loaded.tokenizer, torch.float32, stops, 128)
    return VllmEngine(table, known, max_sequences=NUM_PROMPTS * GROUP, sleeps=False)


def merged(engine: VllmEngine, loaded: LoadedModel, folder: Path) -> Callable[[], None]:
    """Return an update as runs make it: whole weights, of which one after the other has the adapter merged into it."""
    return lambda: engine.update_weights(PolicyWeights(loaded.model), 1)


def through_lora(engine: VllmEngine, loaded: LoadedModel, folder: Path) -> Callable[[], None]:
    """Return an update that writes the adapter, and has vLLM load it; later requests use it."""
    from vllm.lora.request import LoRARequest

    llm: Any = engine._llm
    plain, numbers = llm.enqueue, count(1)
    request: list[Any] = [None]
    llm.enqueue = lambda *args, **options: plain(*args, lora_request=request[0], **options)

    def update() -> None:
        number = next(numbers)
        path = folder / str(number)
        save_adapter(loaded.model, path, adapter_tensors(loaded.model), None)
        request[0] = LoRARequest(str(number), number, str(path))
        if number > 1:
            llm.llm_engine.remove_lora(number - 1)
        llm.llm_engine.add_lora(request[0])

    return update


def measured(engine: VllmEngine, loaded: LoadedModel, update: Callable[[], None], rounds: int) -> tuple[list[float], float]:
    """Return the CPU seconds of each update and of the rollouts after it, and the largest mismatch of log-probs."""
    prompts = prompts_of(loaded, NUM_PROMPTS)
    updates: list[float] = []
    rollouts: list[float] = []
    wall: list[float] = []
    for number in range(-1, rounds):
        move(loaded)
        started = process_time()
        seconds = seconds_of(update)
        updated = process_time()
        groups = engine.generate(prompts, Sampling(GROUP, MAX_NEW_TOKENS, temperature=1.0, seed=number + 1))
        if number >= 0:
            updates.append(updated - started)
            rollouts.append((process_time() - updated) / sum(len(c.ids) for group in groups for c in group))
            wall.append(seconds)
    mismatch = largest_mismatch(prompts[:2], groups[:2], loaded.model, 1.0)
    return [median(updates), median(wall), 1 / median(rollouts)], mismatch


def main() -> None:
    """Show the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, default=16, help="of the adapter")
    parser.add_argument("--rounds", type=int, default=5, help="updates, each with rollouts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = new_table("WAY", "UPDATE, CPU S", "UPDATE, S", "TOKENS PER CPU S", "LARGEST MISMATCH")
    own: dict[str, object] = {"enable_lora": True, "max_lora_rank": arguments.rank, "max_loras": 1}
    ways: list[tuple[str, dict[str, object], Way]] = [("merged", {}, merged), ("vLLM's LoRA", own, through_lora)]
    for name, options, way in ways:
        loaded = loaded_model(arguments.rank)
        with TemporaryDirectory() as folder, closing(opened(loaded, **options)) as engine:
            if options:
                send_base(engine, loaded)
            figures, mismatch = measured(engine, loaded, way(engine, loaded, Path(folder)), arguments.rounds)
        table.add_row(name, *(f"{figure:,.3f}" for figure in figures), f"{mismatch:.1e}")
    show(f"an adapter of rank {arguments.rank}: {NUM_PROMPTS * GROUP} rollouts of at most {MAX_NEW_TOKENS} tokens", table)


def send_base(engine: VllmEngine, loaded: LoadedModel) -> None:
    """Give the engine the base, once."""
    engine.update_weights(list(base_tensors(loaded.model)), 0)


if __name__ == "__main__":
    main()
