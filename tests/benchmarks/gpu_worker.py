"""Take the measurements named as arguments, one after another, and print each as a line of JSON: for `gpu.py`.

What fails costs its own measurement alone; what ends the process costs that too, for `gpu.py` starts another.
"""

import gc
import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

if find_spec("plugrad") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "core"))

import torch
from gpu_heads import head_call
from gpu_runs import update_on_uneven_lengths, whole_run
from gpu_steps import SHAPES, TOY, Shape, make_step, new_batch, new_model, step_flops

from plugrad.policy import compiled

GIB = 2**30


def measure(name: str, device: torch.device, *, toy: bool) -> dict[str, Any]:
    """Return the figures of one measurement, such as "step 0.6B fused lora" or "head kernels trained"."""
    kind, *words = name.split()
    rounds = 2 if toy else 5
    if kind == "run":
        return whole_run(device, toy=toy)
    if kind == "head":
        return timed(head_call(words[0], device, toy=toy, frozen="frozen" in words), 2 if toy else 20, device)
    if kind == "lengths":
        call, num_tokens = update_on_uneven_lengths(device, packed="packed" in words, toy=toy)
        return timed(call, 2 if toy else 3, device) | {"tokens": num_tokens}
    rows, tokens = (2, 32) if toy else (4, 4096)
    shape, adapts = TOY if toy else SHAPES[words[0]], "lora" in words
    if words[1] == "TRL":
        return step_of_trl(shape, rows, tokens, device, rounds, adapts=adapts)
    step = make_step(shape, words[1], rows, tokens, device, adapts=adapts)
    found = timed(step.run, rounds, device)
    return found | {"tokens": step.num_tokens, "flops": step.flops, "parameters": step.num_parameters}


def step_of_trl(shape: Shape, rows: int, tokens: int, device: torch.device, rounds: int, *, adapts: bool) -> dict[str, Any]:
    """Return the figures of TRL's own step, where it is installed."""
    from gpu_trl import median_step

    model = new_model(shape, device)
    num_parameters = model.num_parameters()
    batch = new_batch(shape, rows, tokens, device)
    seconds = median_step(model, batch, rounds, lambda: wait(device), adapts=adapts)
    flops = step_flops(shape, num_parameters, rows, tokens, adapts=adapts)
    return {
        "seconds": seconds,
        "gib": peak_gib(device),
        "tokens": rows * tokens,
        "flops": flops,
        "parameters": num_parameters,
    }


def timed(call: Callable[[], object], rounds: int, device: torch.device) -> dict[str, Any]:
    """Return the median seconds of a call after two to warm up, and the peak of the memory allocated on a GPU in GiB."""
    call()
    call()
    on_gpu = device.type == "cuda"
    gc.collect()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(rounds):
        wait(device)
        started = perf_counter()
        call()
        wait(device)
        seconds.append(perf_counter() - started)
    return {"seconds": median(seconds), "gib": peak_gib(device)}


def peak_gib(device: torch.device) -> float | None:
    """Return the peak of the memory allocated on a GPU since it was reset."""
    return torch.cuda.max_memory_allocated() / GIB if device.type == "cuda" else None


def wait(device: torch.device) -> None:
    """Wait for what the device has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def guarded(name: str, device: torch.device, *, toy: bool) -> dict[str, Any]:
    """Return the figures, or why there are none."""
    try:
        return measure(name, device, toy=toy)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0][:200]}


def main() -> None:
    """Print a line when each measurement begins, and one with what it found."""
    names = [argument for argument in sys.argv[1:] if argument != "--toy"]
    toy, device = "--toy" in sys.argv, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if toy:
        # To generate code takes minutes on a CPU.
        compiled.BACKEND = "eager"
    # What is trained may print, and lines here are read.
    lines, sys.stdout = sys.stdout, sys.stderr
    for name in names:
        print(json.dumps({"begins": name}), file=lines, flush=True)
        found = guarded(name, device, toy=toy)
        print(json.dumps({"name": name, **found}), file=lines, flush=True)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
