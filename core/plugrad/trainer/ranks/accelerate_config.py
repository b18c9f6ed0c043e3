"""What a user's Accelerate configuration may not ask for, and why. Its launcher passes it on in the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

from plugrad.errors import RunFileError

logger = logging.getLogger("plugrad")


@dataclass(frozen=True)
class _Refusal:
    variable: str
    refused: Callable[[str], bool]
    because: str
    instead: str
    unset: str = ""
    """What Accelerate takes where the variable is not set."""


def _is_true(value: str) -> bool:
    return value.strip().lower() in {"1", "true", "yes", "on"}


def _more_than_one(value: str) -> bool:
    return value.strip() not in {"", "0", "1"}


SHARDING = "Shard with FSDP2 (fsdp_version: 2), or train without sharding."
REFUSALS = (
    _Refusal(
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
        _more_than_one,
        "Accelerate would divide the objective by it",
        "Unset it; tokens_per_micro_batch decides how a batch is cut.",
    ),
    _Refusal(
        "ACCELERATE_USE_DEEPSPEED",
        _is_true,
        "DeepSpeed updates the policy at every backward pass, and an update here has several",
        SHARDING,
    ),
    _Refusal("ACCELERATE_USE_MEGATRON_LM", _is_true, "Megatron-LM brings a training loop of its own", SHARDING),
    _Refusal(
        "FSDP_VERSION",
        lambda version: _is_true(os.environ.get("ACCELERATE_USE_FSDP", "")) and version.strip() != "2",
        "FSDP1 flattens parameters and is deprecated in PyTorch",
        SHARDING,
        unset="1",
    ),
    *(
        _Refusal(
            f"PARALLELISM_CONFIG_{size}_SIZE",
            _more_than_one,
            f"{name} parallelism is not tested here: ranks that share a sequence would count its tokens twice",
            "Set it to 1; ranks are data parallel.",
        )
        for size, name in (("TP", "tensor"), ("CP", "context"), ("SP", "sequence"))
    ),
    _Refusal(
        "ACCELERATE_MIXED_PRECISION",
        lambda precision: precision.strip().lower() not in {"", "no", "bf16"},
        "its loss scaling skips updates that other parts of a run count",
        "Choose bf16 or no.",
    ),
)


def refuse_what_is_not_supported() -> None:
    """Look through the environment that a launcher made.

    Raises:
        RunFileError: it asks for what this trainer does not do, or not rightly.
    """
    for refusal in REFUSALS:
        value = os.environ.get(refusal.variable, refusal.unset)
        if refusal.refused(value):
            raise RunFileError(
                f"{refusal.variable} is {value}, from Accelerate's configuration or the environment: {refusal.because}. "
                f"{refusal.instead}"
            )
    if _is_true(os.environ.get("ACCELERATE_USE_FSDP", "")):
        _refuse_sharding_on_a_cpu()
        _load_whole_models()
    _notice_a_single_process()


def _notice_a_single_process() -> None:
    # Accelerate's launcher always sets the one variable, and the other only where it starts several processes.
    if _is_true(os.environ.get("ACCELERATE_USE_CPU", "")) and "WORLD_SIZE" not in os.environ:
        logger.info(
            "Accelerate's launcher has started one process: it starts no more on a CPU, whatever num_processes is. "
            "plugrad train --num-processes does."
        )


def _refuse_sharding_on_a_cpu() -> None:
    if not torch.accelerator.is_available():
        raise RunFileError(
            "Accelerate's configuration asks for FSDP, and this machine has no accelerator: Accelerate would train "
            "without sharding and not say so. Use plugrad train --num-processes, which does that knowingly."
        )


def _load_whole_models() -> None:
    """Keep Transformers from leaving the weights of every rank but the first empty: frozen models are not sent to them."""
    if _is_true(os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING", "")):
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        logger.info("fsdp_cpu_ram_efficient_loading is left off: every rank loads the whole model, and keeps its shard.")
