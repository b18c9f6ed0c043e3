"""Longer pieces for the GPU benchmark: an update on sequences of log-normal lengths, and a whole run."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
from gpu_steps import SHAPES, TOY, new_model
from torch.optim import AdamW

from plugrad import RunFile
from plugrad.policy.micro_batches import Layout, TrainingSequence, cut
from plugrad.policy.packing import LIKE_FLASH
from plugrad.policy.policy import Policy
from plugrad.policy.reductions import Counts
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train

MISMATCH = "inference_mismatch/kl"


def update_on_uneven_lengths(device: torch.device, *, packed: bool, toy: bool) -> tuple[Callable[[], object], int]:
    """Return an update on sequences of log-normal lengths, and their tokens without padding."""
    generator = torch.Generator().manual_seed(0)
    number, middle, longest, budget = (16, 12, 32, 64) if toy else (64, 512, 4096, 16_384)
    drawn = (torch.randn(number, generator=generator) + torch.tensor(float(middle)).log()).exp()
    lengths = drawn.long().clamp(4, longest).tolist()
    sequences = [TrainingSequence([1] * n, [False] + [True] * (n - 1), [0.0] * n, None, 1.0, 0, 0, {}) for n in lengths]
    layout = Layout(budget, 0, torch.float32, packed=packed)
    micro_batches = cut(sequences, Counts(sum(lengths), number, 1, max(lengths)), layout)
    # Flex attention runs backwards on accelerators only.
    packing = "flex_attention" if device.type == "cuda" else LIKE_FLASH
    model = new_model(TOY if toy else SHAPES["0.6B"], device, attn_implementation=packing if packed else "sdpa")
    policy = Policy(model, 1.0, packs=packed).train()
    optimizer = AdamW(model.parameters(), lr=1e-6, fused=device.type == "cuda")

    def call() -> None:
        for each in micro_batches:
            inputs = (each.input_ids.to(device), each.attention_mask.to(device), each.loss_mask.to(device))
            (-policy(*inputs).logprobs[inputs[2]].sum() / sum(lengths)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return call, sum(lengths)


def whole_run(device: torch.device, *, toy: bool) -> dict[str, float | str]:
    """Train 20 steps with engine `transformers` in bfloat16; return seconds a step, and whether all was finite."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    large = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "head_dim": 64}
    num_steps = 2 if toy else 20
    with tempfile.TemporaryDirectory() as folder:
        run_file = RunFile(
            output_dir=str(Path(folder) / "run"),
            max_steps=num_steps,
            model={"dtype": "bfloat16", "from_scratch": {"model_type": "qwen3", **(shape if toy else large)}},
            environment={"name": "arithmetic"},
            rollout={
                "engine": "transformers",
                "prompts_per_step": 4 if toy else 32,
                "rollouts_per_example": 4 if toy else 8,
                "max_new_tokens": 4 if toy else 16,
            },
            optimizer={"lr": 1e-4},
        )
        started = perf_counter()
        train(run_file, display=Silent())
        seconds = perf_counter() - started
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines if '"loss"' in line]
    finite = all(isinstance(record["loss"], float) and abs(record["loss"]) < float("inf") for record in records)
    mismatch = [record[MISMATCH] for record in records if MISMATCH in record]
    found: dict[str, float | str] = {"seconds": seconds / num_steps, "steps": len(records), "device": device.type}
    if not finite:
        raise ArithmeticError("a loss is not finite")
    return found | ({"mismatch": max(mismatch)} if mismatch else {})
