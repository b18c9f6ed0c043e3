"""TRL's training step on the work of `gpu_steps`, for the GPU benchmark: GRPOTrainer's own loop on a given batch."""

import gc
import tempfile
import warnings
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch
from datasets import Dataset
from gpu_steps import Batch, completion_start
from peft import LoraConfig
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from plugrad.config.tables.lora_table import LoraTable
from plugrad.policy.lora_config import lora_config
from plugrad.testing import tiny_tokenizer

WARM_UP = 2


class _OnGivenBatch(GRPOTrainer):
    """Takes the same batch each step, in place of prompts to complete."""

    given: dict[str, Any]

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        return self.given


class _Timing(TrainerCallback):
    """Times whole steps: forward, loss, backward, clip, update, and what the trainer does around them."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self._wait = wait
        self.seconds: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **details: Any) -> None:
        """Start the clock, and after those that warm up the count of memory."""
        if state.global_step == WARM_UP and torch.cuda.is_available():
            gc.collect()
            torch.cuda.reset_peak_memory_stats()
        self._wait()
        self._started = perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **details: Any) -> None:
        """Stop it."""
        self._wait()
        self.seconds.append(perf_counter() - self._started)


def median_step(model: PreTrainedModel, batch: Batch, rounds: int, wait: Callable[[], None], *, adapts: bool) -> float:
    """Return the median seconds of a step of `GRPOTrainer`, with activations recomputed in the backward pass."""
    warnings.simplefilter("ignore", FutureWarning)
    timing = _Timing(wait)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _OnGivenBatch(
            model,
            reward_funcs=lambda completions, **unused: [0.0] * len(completions),
            args=_config(folder, batch, rounds, fused=model.device.type == "cuda"),
            train_dataset=Dataset.from_list([{"prompt": "1+1="}] * len(batch.input_ids)),
            processing_class=tiny_tokenizer(),
            callbacks=[timing],
            peft_config=_same_adapter() if adapts else None,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.given = _as_theirs(batch)
        trainer.train()
    return median(timing.seconds[WARM_UP:])


def _config(folder: str, batch: Batch, rounds: int, *, fused: bool) -> GRPOConfig:
    rows = len(batch.input_ids)
    return GRPOConfig(
        output_dir=folder,
        max_steps=WARM_UP + rounds,
        per_device_train_batch_size=rows,
        num_generations=rows,
        gradient_accumulation_steps=1,
        gradient_checkpointing=True,
        use_cpu=not torch.cuda.is_available(),
        # The weights are in bfloat16 already, as on our side.
        bf16=False,
        beta=0.0,
        learning_rate=1e-6,
        optim="adamw_torch_fused" if fused else "adamw_torch",
        max_grad_norm=1.0,
        lr_scheduler_type="constant",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _same_adapter() -> LoraConfig:
    config: LoraConfig = lora_config(LoraTable())
    config.target_modules = config.target_modules or "all-linear"
    return config


def _as_theirs(batch: Batch) -> dict[str, Any]:
    start = completion_start(batch.input_ids.shape[1])
    mask = batch.attention_mask.long()
    return {
        "prompt_ids": batch.input_ids[:, :start],
        "prompt_mask": mask[:, :start],
        "completion_ids": batch.input_ids[:, start:],
        "completion_mask": mask[:, start:],
        "advantages": batch.advantages[:, 0],
        "num_items_in_batch": mask[:, start:].sum(),
    }
