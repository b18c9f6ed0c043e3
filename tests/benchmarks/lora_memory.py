"""The peak memory of tensors in a run beside its weights: all weights trained, or an adapter; with a reference or without.

Each in a process of its own: `python tests/benchmarks/lora_memory.py`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import new_table, show

SIZES: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "head_dim": 64}
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 4096}
GOAL = 0.6
MIB = 2**20


def most_allocated(trace: Path) -> float:
    """Return how much memory tensors took at most, in MiB, of a recording of PyTorch's profiler."""
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    most: float = max(each["args"]["Total Allocated"] for each in events if each.get("name") == "[memory]")
    return most / MIB


def measure(folder: Path, *, adapts: bool, refers: bool, layers: int) -> dict[str, float]:
    """Train two steps of recorded completions; return the memory beside the weights, and how many weights there are."""
    from torch.profiler import ProfilerActivity, profile

    from plugrad import RunFile
    from plugrad.trainer.record.display import Silent
    from plugrad.trainer.train import train

    lines = [json.dumps({"prompt": "repeat: ", "reference": "abcdefgh" * 12}) for _ in range(16)]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = {"from_scratch": {"model_type": "qwen3", **SIZES, **HEADS, "num_hidden_layers": layers}}
    reference = [{"name": "kl_to_reference", "weight": 0.1}] * refers
    run_file = RunFile(
        output_dir=str(folder / "run"),
        search_paths=[str(folder)],
        max_steps=2,
        tokens_per_micro_batch=512,
        metrics=["reward"],
        model={**model, "lora": {} if adapts else None},
        environment={"name": "jsonl", "kwargs": {"path": "texts.jsonl"}},
        rollout={"engine": "dataset", "prompts_per_step": 8, "rollouts_per_example": 1},
        loss=[{"name": "cross_entropy"}, *reference],
        capture={"on_failure": False},
    )
    # What the process takes would count libraries, which differ more than what is compared.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recording:
        result = train(run_file, display=Silent())
    recording.export_chrome_trace(str(folder / "trace.json"))
    saved = result.model / "base" if adapts else result.model
    weights = (saved / "model.safetensors").stat().st_size / MIB
    return {"beside": most_allocated(folder / "trace.json") - weights, "weights": weights}


def measured(*, adapts: bool, refers: bool, layers: int) -> dict[str, float]:
    """Return what a process of its own measures."""
    asked = json.dumps({"adapts": adapts, "refers": refers, "layers": layers})
    command = [sys.executable, __file__, "--measure", asked]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    """Print the table, or measure one case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=SIZES["num_hidden_layers"])
    parser.add_argument("--measure")
    given = parser.parse_args()
    if given.measure:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(Path(folder), **json.loads(given.measure))))
        return
    table = new_table("step of 8 sequences of about 100 tokens", "all weights", "an adapter", "ratio", "goal")
    for name, refers in (("alone", False), ("with a reference", True)):
        whole, adapter = (measured(adapts=adapts, refers=refers, layers=given.layers) for adapts in (False, True))
        ratio = adapter["beside"] / whole["beside"]
        met = "met" if ratio <= GOAL else "[red]missed[/red]"
        row = (f"{each['beside']:.0f} MiB" for each in (whole, adapter))
        table.add_row(f"{name}, {whole['weights'] * MIB / 4e6:.0f}M weights", *row, f"{ratio:.2f}", f"at most {GOAL}: {met}")
    show("Peak memory of tensors beside the weights, float32", table)


if __name__ == "__main__":
    main()
