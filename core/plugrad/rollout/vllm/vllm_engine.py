"""The `vllm` engine: vLLM in the training process, with a copy of the weights that is handed over in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from plugrad.config.tables.vllm_table import VllmTable
from plugrad.errors import EngineError
from plugrad.host.trial import random_state_of
from plugrad.rollout.engine import Completion, Prompt, Sampling
from plugrad.rollout.engine_implementation import EngineImplementation, EngineSetup
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.sampling_params import sampling_params
from plugrad.rollout.vllm.start import said_by, start

Request = tuple[list[int], int]
"""A prompt's tokens and its seed."""


class VllmEngine:
    """One engine a rank, or one for `tensor_parallel_size` ranks, which then complete their prompts together.

    Its weights are random until it is given some. `generate` and `update_weights` may be called from two threads: one waits
    for the other.
    """

    def __init__(self, table: VllmTable, model: EngineModel, *, max_sequences: int, sleeps: bool) -> None:
        """Start vLLM.

        Args:
            table: the options.
            model: the policy's.
            max_sequences: how many completions run at once.
            sleeps: whether to give the device's memory back after each `generate`, where `table` does not say and vLLM can.

        Raises:
            EngineError: vLLM is not installed, or refuses the model or an option.
        """
        self._vllm = start(table, model, max_sequences, sleeps)
        self._llm: Any = self._vllm.llm
        self._stops, self._vocab_size = model.stops, model.vocab_size
        self._tensor_parallel_size = table.tensor_parallel_size
        self._version = 0
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._is_asleep = False

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Sample all completions of a prompt together: what the prompt comes to is computed once."""
        requests = [(prompt.ids, sampling.seed_of(index)) for index, prompt in enumerate(prompts)]
        shares = self._of_neighbours(requests)
        first = sum(len(share) for share in shares[: self._place()])
        everyones = [request for share in shares for request in share]
        with self._lock, _failures_told(), self._awake(), _random_state_kept():
            own = self._outputs(everyones, sampling)[first : first + len(requests)]
            groups = [[self._completion(completion) for completion in output.outputs] for output in own]
        return sampling.with_copies(groups)

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Hand the weights over one at a time, and forget what was computed with the old ones."""
        with self._lock:
            self._wake()
            # Through the worker, and not into the model's parameters: vLLM has repacked those for the device.
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
            if not self._llm.reset_prefix_cache():
                raise EngineError("vLLM did not empty its prefix cache: prompts would be read with the old weights.")
            self._version = version

    def close(self) -> None:
        """Stop vLLM and free its memory; a batch that another thread generates is given up."""
        self._is_closed.set()
        with self._lock:
            if self._llm is not None:
                self._vllm.stop()
            self._llm = None

    def _outputs(self, requests: Sequence[Request], sampling: Sampling) -> list[Any]:
        """Return what vLLM makes of the requests, in their order."""
        prompts = [{"prompt_token_ids": ids} for ids, _ in requests]
        self._llm.enqueue(prompts, [self._sampling_params(sampling, seed) for _, seed in requests], use_tqdm=False)
        outputs: list[Any] = []
        # A step at a time, and not all of them by `LLM.generate`: in between, a batch can be given up.
        while self._llm.llm_engine.has_unfinished_requests():
            self._check_open()
            outputs += [output for output in self._llm.llm_engine.step() if output.finished]
        return sorted(outputs, key=lambda output: int(output.request_id))

    def _check_open(self) -> None:
        if self._is_closed.is_set():
            raise EngineError("vLLM was asked for something, and is closed.")

    def _sampling_params(self, sampling: Sampling, seed: int) -> Any:
        given = sampling_params(sampling, seed=seed, stops=self._stops, vocab_size=self._vocab_size)
        return self._vllm.sampling_params(**given)

    def _completion(self, output: Any) -> Completion:
        ids = list(output.token_ids)
        logprobs = [entry[token].logprob for entry, token in zip(output.logprobs, ids, strict=True)]
        return Completion(ids, logprobs, output.finish_reason == "length", [self._version] * len(ids))

    def _of_neighbours(self, requests: list[Request]) -> list[list[Request]]:
        """Return the requests of the ranks that share this engine: each of them asks for all, and keeps its own."""
        if self._tensor_parallel_size == 1:
            return [requests]
        from vllm.distributed import get_tp_group

        shares: list[Any] = [None] * self._tensor_parallel_size
        dist.all_gather_object(shares, requests, group=get_tp_group().cpu_group)
        return shares

    def _place(self) -> int:
        return 0 if self._tensor_parallel_size == 1 else dist.get_rank() % self._tensor_parallel_size

    @contextmanager
    def _awake(self) -> Iterator[None]:
        self._wake()
        yield
        if self._vllm.sleeps:
            # Level 1 keeps the weights, on the host: another batch may be asked for before there are new ones.
            self._llm.sleep(level=1)
            self._is_asleep = True

    def _wake(self) -> None:
        self._check_open()
        if self._is_asleep:
            self._llm.wake_up()
            self._is_asleep = False


@contextmanager
def _failures_told() -> Iterator[None]:
    """Tell what vLLM fails of; memory is the trainer's matter too, which knows what to do about it."""
    try:
        yield
    except (EngineError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise EngineError(
            f"vLLM fails when it is to complete prompts: {said_by(error)} (--traceback shows where. "
            'engine = "transformers" samples without it.)'
        ) from error


def _random_state_kept() -> Any:
    """VLLM draws from the process's generator although every request has its own."""
    # In a thread beside the trainer's it is not put back: the trainer may have drawn from it meanwhile.
    in_trainers_thread = threading.current_thread() is threading.main_thread()
    return random_state_of(0) if in_trainers_thread else nullcontext()


def _open(setup: EngineSetup) -> VllmEngine:
    table = setup.run_file.rollout
    # A run that samples while it trains never has a moment to put the engine to sleep.
    sleeps = table.max_staleness == 0
    return VllmEngine(table.vllm, setup.model, max_sequences=table.generation_batch_size, sleeps=sleeps)


VLLM = EngineImplementation(
    open=_open,
    packages=lambda run_file, is_main: ["vllm"],
    record=lambda run_file, engine: {"VLLM_PLUGINS": run_file.rollout.vllm.plugins},
)
