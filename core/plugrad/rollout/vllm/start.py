"""Starting vLLM inside a process that it shares with the trainer, and stopping it there."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from plugrad.config.tables.vllm_table import VllmTable
from plugrad.errors import EngineError
from plugrad.host.trial import random_state_of
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.packages import require

logger = logging.getLogger("plugrad")

GIB = 2**30
SHOWN_CHARACTERS = 600
"""Of an error of vLLM's: some list all models that there are."""
CPU_CACHE_GIB = 1.0


@dataclass(frozen=True)
class StartedVllm:
    """VLLM's engine, and how to end it."""

    llm: Any
    """A `vllm.LLM`."""
    sampling_params: Callable[..., Any]
    """The class `vllm.SamplingParams`."""
    sleeps: bool
    """Whether it can give the device's memory back, and is to."""
    is_among_ranks: bool
    """Whether it found a process group of the ranks, and joined it."""

    def stop(self) -> None:
        """Free its memory."""
        client = self.llm.llm_engine.engine_core
        if not self.is_among_ranks:
            client.shutdown()
            return
        # Its own shutdown would end torch.distributed too, which is the trainer's: now, or at the end of the process.
        client._finalizer.detach()
        client.engine_core.model_executor.shutdown()
        from vllm.distributed import destroy_model_parallel

        destroy_model_parallel()


def start(table: VllmTable, model: EngineModel, max_sequences: int, sleeps: bool) -> StartedVllm:
    """Start vLLM with random weights.

    Raises:
        EngineError: it is not installed, or refuses the model or an option.
    """
    require("vllm", ["vllm"])
    started, among_ranks = time.perf_counter(), _are_ranks()
    with _environment(table), _process_state_kept(), tempfile.TemporaryDirectory(prefix="plugrad-vllm-") as folder:
        import vllm
        from vllm.platforms import current_platform

        sleeps = current_platform.is_sleep_mode_available() and (sleeps if table.sleep is None else table.sleep)
        model.save(folder)
        llm = _make(vllm.LLM, folder, _arguments(table, model, max_sequences, sleeps))
    if among_ranks:
        _forget_shared_names()
    logger.info("vLLM %s has started in %.1f s.", vllm.__version__, time.perf_counter() - started)
    return StartedVllm(llm, vllm.SamplingParams, sleeps, among_ranks)


def _forget_shared_names() -> None:
    """Remove the name of the memory that vLLM shares among ranks of one engine on a CPU. All have opened it by now.

    The name is the same for every run, and vLLM removes it only where its libraries are unloaded in order: a run that was
    killed would keep the next one from starting.
    """
    from vllm.distributed.parallel_state import get_tp_group

    shared: Any = getattr(get_tp_group().device_communicator, "dist_module", None)
    if not hasattr(shared, "group_name"):
        return
    # On Linux, a file. Python's own SharedMemory cannot have a colon in a name.
    Path("/dev/shm", f"{shared.group_name.lstrip('/')}_{shared.communicator.rank}").unlink(missing_ok=True)


def _are_ranks() -> bool:
    """Whether a launcher has started this process as a rank, which has met the others."""
    return dist.is_initialized() and "RANK" in os.environ


@contextmanager
def _environment(table: VllmTable) -> Iterator[None]:
    """Set what vLLM reads from the environment while it starts; afterwards the environment is as it was."""
    ours = {
        # The engine in this process: weights are handed over as they are, and not through a pipe.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # Unset, it lets every vLLM plugin that any installed package brings run inside the engine.
        "VLLM_PLUGINS": ",".join(table.plugins),
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
    }
    kept = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _process_state_kept() -> Iterator[None]:
    """Keep what vLLM changes in a process that it takes for its own: the random state, and a function of torch."""
    set_num_threads = torch.set_num_threads
    try:
        with random_state_of(0), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        torch.set_num_threads = set_num_threads


def _arguments(table: VllmTable, model: EngineModel, max_sequences: int, sleeps: bool) -> dict[str, Any]:
    on_cpu = not torch.accelerator.is_available()
    cache_gib = CPU_CACHE_GIB if on_cpu and table.kv_cache_gib is None else table.kv_cache_gib
    return {
        "dtype": model.dtype_name,
        # The trainer hands the weights over before anything is sampled.
        "load_format": "dummy",
        "max_model_len": model.max_tokens,
        "max_num_seqs": max_sequences,
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": True,
        # On a CPU vLLM 0.32 dies of a prompt that it reads in pieces: it wants to put its seeded generator back, which there
        # is no way to do.
        "enable_chunked_prefill": not on_cpu,
        "enforce_eager": on_cpu if table.enforce_eager is None else table.enforce_eager,
        "gpu_memory_utilization": table.gpu_memory_utilization,
        "kv_cache_memory_bytes": None if cache_gib is None else int(cache_gib * GIB),
        "enable_sleep_mode": sleeps,
        "tensor_parallel_size": table.tensor_parallel_size,
        # The ranks were launched already: vLLM starts no processes, and takes its place among them.
        "distributed_executor_backend": "external_launcher" if _are_ranks() else None,
        "disable_log_stats": True,
        "seed": 0,
        **table.kwargs,
    }


def _make(llm: Callable[..., Any], folder: str, arguments: dict[str, Any]) -> Any:
    try:
        return llm(model=folder, tokenizer=folder, **arguments)
    except Exception as error:
        raise EngineError(
            f"vLLM does not start with this model and [rollout.vllm]: {said_by(error)} "
            '(VLLM_LOGGING_LEVEL=INFO shows what it did; engine = "transformers" samples without it.)'
        ) from error


def said_by(error: Exception) -> str:
    """Return what an error of vLLM's says, in one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= SHOWN_CHARACTERS else said[:SHOWN_CHARACTERS] + "…"
