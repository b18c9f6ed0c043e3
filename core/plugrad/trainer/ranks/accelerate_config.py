"""Accelerate's configuration: which settings are refused and why, and the Accelerator of a process.

Accelerate's launcher passes the configuration on as environment variables.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch.distributed.fsdp import MixedPrecisionPolicy

from plugrad.config.tables.model_table import ModelTable
from plugrad.errors import RunFileError
from plugrad.shown import LIMIT, printable, shown
from plugrad.trainer.ranks.launch_variables import check_launch_variables

logger = logging.getLogger("plugrad")


@dataclass(frozen=True)
class _Refusal:
    variable: str
    refused: Callable[[str], bool]
    because: str
    instead: str
    unset: str = ""
    """The value that Accelerate uses where the variable is not set."""


def _is_true(value: str) -> bool:
    return value.strip().lower() in {"1", "true", "yes", "on"}


def _is_asked_of_fsdp(value: str) -> bool:
    return _is_true(value) and _is_true(os.environ.get("ACCELERATE_USE_FSDP", ""))


def _more_than_one(value: str) -> bool:
    return value.strip() not in {"", "0", "1"}


SHARDED_PRECISION = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
"""Of a sharded policy that computes in bfloat16. Accelerate's own would reduce gradients, and return log-probs, in it."""
ACCELERATES = ("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_", "MASTER_", "WORLD_SIZE", "RANK", "LOCAL_")
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
    _Refusal(
        "FSDP_OFFLOAD_PARAMS",
        _is_asked_of_fsdp,
        "its weights, gradients and updates would be on the CPU, where plugrad has not been tried with shards",
        "Set fsdp_offload_params: false. More ranks, [model.lora] or model.gradient_checkpointing leave less to each.",
    ),
    _Refusal(
        "FSDP_ACTIVATION_CHECKPOINTING",
        _is_asked_of_fsdp,
        "it puts modules around the layers, and adapters and checkpoints know layers by their names",
        "Set fsdp_activation_checkpointing: false, and model.gradient_checkpointing = true in the run file.",
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


def make_accelerator(model: ModelTable | None = None) -> Accelerator:
    """Return the Accelerator of this process.

    Args:
        model: the run file's. Its `compute_dtype`, if it is given, decides the precision.

    Raises:
        RunFileError: Accelerate's configuration asks for something that this trainer does not support, or for another
            precision than the run file.
    """
    check_launch_variables()
    check_accelerate_config()
    accelerator = _made(None if model is None else _precision(model))
    if accelerator.is_fsdp2 and accelerator.mixed_precision == "bf16":
        accelerator.state.fsdp_plugin.mixed_precision_policy = SHARDED_PRECISION
    return accelerator


def _precision(model: ModelTable) -> str | None:
    """Return Accelerate's name of the precision that the run file asks for; None where Accelerate's own holds."""
    configured = os.environ.get("ACCELERATE_MIXED_PRECISION", "").strip().lower()
    if model.compute_dtype is None:
        return None
    if model.compute_dtype == "float32" and configured == "bf16":
        raise RunFileError(
            'model.compute_dtype is "float32", and Accelerate\'s configuration sets mixed precision to bf16 '
            "(ACCELERATE_MIXED_PRECISION). Leave one of them out."
        )
    # Weights of bfloat16 compute in it by themselves.
    return "bf16" if model.compute_dtype == "bfloat16" and model.dtype in ("float32", "auto") else "no"


def _forget_precision_of_another_run(precision: str) -> None:
    # Accelerate keeps it for the process, and a process may train one run after another.
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()


def _made(precision: str | None) -> Accelerator:
    _forget_precision_of_another_run(precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no").strip().lower() or "no")
    try:
        return Accelerator(
            mixed_precision=precision,
            # Otherwise Accelerate treats several processes on a machine without an accelerator as separate runs.
            cpu=not torch.accelerator.is_available(),
            gradient_accumulation_steps=1,
            kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
        )
    except Exception as error:
        # Accelerate reads dozens of variables, each in its own way.
        names = sorted(name for name in os.environ if name.startswith(ACCELERATES))
        found = ", ".join(f"{name}={shown(os.environ[name])}" for name in names) or "none of its variables is set"
        raise RunFileError(
            f"Accelerate cannot start: {type(error).__name__}: {printable(error)}. It reads the environment: "
            f"{printable(found, 2 * LIMIT)}. Correct or unset what is wrong, or run `accelerate config` again."
        ) from error


def check_accelerate_config() -> None:
    """Check the environment variables that a launcher has set.

    Raises:
        RunFileError: one asks for something that this trainer does not support, or would do wrongly.
    """
    for refusal in REFUSALS:
        value = os.environ.get(refusal.variable, refusal.unset)
        if refusal.refused(value):
            raise RunFileError(
                f"{refusal.variable} is {printable(value)}, from Accelerate's configuration or the environment: "
                f"{refusal.because}. {refusal.instead}"
            )
    if _is_true(os.environ.get("ACCELERATE_USE_FSDP", "")):
        _refuse_sharding_on_a_cpu()
        _load_whole_models()
    _log_a_single_process()


def _log_a_single_process() -> None:
    # Accelerate's launcher always sets the first variable, and the second only where it starts several processes.
    if _is_true(os.environ.get("ACCELERATE_USE_CPU", "")) and "WORLD_SIZE" not in os.environ:
        logger.info(
            "Accelerate's launcher has started one process: on a CPU it ignores num_processes. Use "
            "plugrad train --num-processes instead."
        )


def _refuse_sharding_on_a_cpu() -> None:
    if not torch.accelerator.is_available():
        raise RunFileError(
            "Accelerate's configuration asks for FSDP, and this machine has no accelerator: Accelerate would silently train "
            "without sharding. Use plugrad train --num-processes, which trains without sharding on a CPU."
        )


def _load_whole_models() -> None:
    """Make Transformers load the weights on every rank, not on the first alone: frozen models are never broadcast."""
    if _is_true(os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING", "")):
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        logger.info("fsdp_cpu_ram_efficient_loading is turned off: every rank loads the whole model and keeps its shard.")
