"""Start vLLM inside the trainer's process, and stop it there."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from plugrad.config.tables.vllm_table import VllmTable
from plugrad.errors import EngineError
from plugrad.host.trial import random_state_of
from plugrad.processes import SAFE_PATH
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.packages import require
from plugrad.rollout.vllm.cpu import KV_CACHE_GIB, is_cpu, unlink_shared_memory

logger = logging.getLogger("plugrad")

GIB = 2**30
MAX_ERROR_CHARACTERS = 600
"""The most of a vLLM error: some list all supported models."""


@dataclass(frozen=True)
class StartedVllm:
    """VLLM's engine, with what is needed to use and stop it."""

    llm: Any
    """A `vllm.LLM`."""
    sampling_params: Callable[..., Any]
    """The class `vllm.SamplingParams`."""
    sleeps: bool
    """Whether it frees the device's memory between batches."""
    is_among_ranks: bool
    """Whether it has joined the ranks' process group."""

    def stop(self) -> None:
        """Stop vLLM and free its memory."""
        client = self.llm.llm_engine.engine_core
        if not self.is_among_ranks:
            client.shutdown()
            return
        # Its own shutdown, now or when the process exits, would destroy torch.distributed too, which is the trainer's.
        client._finalizer.detach()
        client.engine_core.model_executor.shutdown()
        from vllm.distributed import destroy_model_parallel

        destroy_model_parallel()


def start_vllm(table: VllmTable, model: EngineModel, max_sequences: int, sleeps: bool) -> StartedVllm:
    """Start vLLM with random weights.

    Raises:
        EngineError: vLLM is not installed, or rejects the model or an option.
    """
    require("vllm", ["vllm"])
    started_at, is_among_ranks = time.perf_counter(), _is_rank()
    with _environment(table), _restored_process_state(), tempfile.TemporaryDirectory(prefix="plugrad-vllm-") as folder:
        import vllm
        from vllm.platforms import current_platform

        sleeps = current_platform.is_sleep_mode_available() and (sleeps if table.sleep is None else table.sleep)
        model.save(folder)
        llm = _create_llm(vllm.LLM, folder, _arguments(table, model, max_sequences, sleeps))
    if is_among_ranks:
        unlink_shared_memory()
    logger.info("vLLM %s started in %.1f s.", vllm.__version__, time.perf_counter() - started_at)
    return StartedVllm(llm, vllm.SamplingParams, sleeps, is_among_ranks)


def _is_rank() -> bool:
    """Return whether a launcher has started this process as a rank, which has joined the process group."""
    return dist.is_initialized() and "RANK" in os.environ


@contextmanager
def _environment(table: VllmTable) -> Iterator[None]:
    """Set the variables that vLLM reads while it starts, and restore the environment afterwards."""
    ours = {
        # The engine runs in this process, so weights are passed directly and not through a pipe.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # If unset, every installed vLLM plugin runs inside the engine.
        "VLLM_PLUGINS": ",".join(table.plugins),
        # It starts processes that look at models, without Python's -P.
        SAFE_PATH: "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
    }
    previous = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _restored_process_state() -> Iterator[None]:
    """Restore what vLLM changes as if the process were its own: the random state, and a function of torch."""
    set_num_threads = torch.set_num_threads
    try:
        with random_state_of(0), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        torch.set_num_threads = set_num_threads


def _arguments(table: VllmTable, model: EngineModel, max_sequences: int, sleeps: bool) -> dict[str, Any]:
    on_cpu = is_cpu()
    cache_gib = KV_CACHE_GIB if on_cpu and table.kv_cache_gib is None else table.kv_cache_gib
    return {
        "dtype": model.dtype_name,
        "trust_remote_code": model.trust_remote_code,
        # The trainer sends the weights before anything is sampled.
        "load_format": "dummy",
        "max_model_len": model.max_tokens,
        "max_num_seqs": max_sequences,
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": True,
        # It crashes on a CPU: see cpu.py.
        "enable_chunked_prefill": not on_cpu,
        "enforce_eager": on_cpu if table.enforce_eager is None else table.enforce_eager,
        "gpu_memory_utilization": table.gpu_memory_utilization,
        "kv_cache_memory_bytes": None if cache_gib is None else int(cache_gib * GIB),
        "enable_sleep_mode": sleeps,
        "tensor_parallel_size": table.tensor_parallel_size,
        # The ranks are already running: vLLM joins them instead of starting processes.
        "distributed_executor_backend": "external_launcher" if _is_rank() else None,
        "disable_log_stats": True,
        "seed": 0,
        **table.kwargs,
    }


def _create_llm(llm_class: Callable[..., Any], folder: str, arguments: dict[str, Any]) -> Any:
    try:
        return llm_class(model=folder, tokenizer=folder, **arguments)
    except Exception as error:
        raise EngineError(
            f"vLLM failed to start with this model and [rollout.vllm]: {one_line(error)} "
            '(Set VLLM_LOGGING_LEVEL=INFO to see its log, or sample without vLLM: engine = "transformers".)'
        ) from error


def one_line(error: Exception) -> str:
    """Return the message of a vLLM error in one line, shortened."""
    message = " ".join(str(error).split()) or type(error).__name__
    return message if len(message) <= MAX_ERROR_CHARACTERS else message[:MAX_ERROR_CHARACTERS] + "…"
