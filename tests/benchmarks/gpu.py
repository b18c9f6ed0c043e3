"""The training step on one GPU: tokens/s, model FLOPs utilisation and peak memory, as a table for docs/performance.md.

`python tests/benchmarks/gpu.py` needs torch, Transformers, Accelerate and plugrad's light dependencies; plugrad itself is
found beside this file. `--toy` takes tiny models, and a CPU if there is nothing else. Where TRL is installed its log-prob
path runs too.
"""

import argparse
import gc
import sys
from collections.abc import Callable
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter

if find_spec("plugrad") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "core"))

import torch
from gpu_steps import STEPS, Shape, Step

from plugrad.trainer.record.utilisation import peak_bf16_tflops

GIB = 2**30
SHAPES = {
    "0.5B": Shape(hidden=896, layers=24, heads=14, kv_heads=2, intermediate=4864, vocab=151_936),
    "1.5B": Shape(hidden=1536, layers=28, heads=12, kv_heads=2, intermediate=8960, vocab=151_936),
}
"""Qwen2.5's, with random weights and tied embeddings."""
TOY = {"toy": Shape(hidden=32, layers=2, heads=2, kv_heads=1, intermediate=64, vocab=300)}


def main() -> None:
    """Print one row a model and way to the log-probs."""
    arguments = _arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peak = arguments.peak_tflops or peak_bf16_tflops(device)
    rows, tokens = (2, 32) if arguments.toy else (arguments.rows, arguments.tokens)
    print(f"{date.today()}, {_name(device)}, torch {torch.__version__}, bf16, {rows} x {tokens} tokens a step, ", end="")
    print(f"peak {peak:.0f} TFLOP/s\n" if peak else "peak unknown: give --peak-tflops\n")
    print("| model | parameters | log-probs | tokens/s | model FLOPs utilisation | peak memory, GiB | step, ms |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for name, shape in (TOY if arguments.toy else SHAPES).items():
        for label, make in STEPS.items():
            if label == "TRL" and find_spec("trl") is None:
                continue
            print(_row(name, label, make(shape, rows, tokens, device), arguments.rounds, peak), flush=True)


def _row(name: str, label: str, step: Step, rounds: int, peak_tflops: float | None) -> str:
    seconds, peak_bytes = _measured(step.run, rounds, step.device)
    utilisation = f"{step.flops / seconds / peak_tflops / 1e12:.1%}" if peak_tflops else "n/a"
    memory = f"{peak_bytes / GIB:.1f}" if peak_bytes else "n/a"
    return (
        f"| {name} | {step.num_parameters / 1e6:,.0f}M | {label} | {step.num_tokens / seconds:,.0f} | {utilisation} "
        f"| {memory} | {1e3 * seconds:,.1f} |"
    )


def _measured(call: Callable[[], object], rounds: int, device: torch.device) -> tuple[float, int]:
    """Return the median seconds of a call, and the peak of the memory allocated on a GPU."""
    call()
    call()
    on_gpu = device.type == "cuda"
    # The model before this one may still hang in a cycle of references.
    gc.collect()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(rounds):
        _wait(device)
        started = perf_counter()
        call()
        _wait(device)
        seconds.append(perf_counter() - started)
    return median(seconds), torch.cuda.max_memory_allocated() if on_gpu else 0


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "CPU"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="tiny models, in seconds")
    parser.add_argument("--rounds", type=int, default=10, help="steps of which the median is taken, after two to warm up")
    parser.add_argument("--rows", type=int, default=8, help="sequences in a micro-batch")
    parser.add_argument("--tokens", type=int, default=1024, help="tokens of a sequence, a quarter of them prompt")
    parser.add_argument("--peak-tflops", type=float, help="of the device, dense bf16, where the table has none")
    return parser.parse_args()


if __name__ == "__main__":
    main()
