"""The `vllm` engine: vLLM in the training process, with its own copy of the weights, which it receives in memory."""

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
from plugrad.rollout.vllm.start import one_line, start_vllm

Request = tuple[list[int], int, int]
"""A prompt's tokens, its seed, and the most tokens of a completion."""


class VllmEngine:
    """One engine per rank, or one per `tensor_parallel_size` ranks, which then complete their prompts together.

    Its weights are random until the first `update_weights`. Two threads may call `generate` and `update_weights`: one waits
    for the other. The rounds of a batch of plays keep vLLM's prefix cache, until the next weights.
    """

    def __init__(self, table: VllmTable, model: EngineModel, *, max_sequences: int, sleeps: bool) -> None:
        """Start vLLM.

        Args:
            table: the run file's `[rollout.vllm]`.
            model: the policy's model.
            max_sequences: the number of completions that run at once.
            sleeps: whether to free the device's memory after each `generate`, unless `table` sets it or vLLM cannot.

        Raises:
            EngineError: vLLM is not installed, or rejects the model or an option.
        """
        self._vllm = start_vllm(table, model, max_sequences, sleeps)
        self._llm: Any = self._vllm.llm
        self._stops, self._vocab_size = model.stops, model.vocab_size
        self._tensor_parallel_size = table.tensor_parallel_size
        self._version = 0
        self._lock = threading.Lock()
        self._batch = threading.Lock()
        self._is_in_rounds = False
        self._is_closed = threading.Event()
        self._is_asleep = False

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Sample all completions of a prompt together, so that the prompt is computed once."""
        requests = [
            (prompt.ids, sampling.seed_of(index, prompt), sampling.limit_of(prompt)) for index, prompt in enumerate(prompts)
        ]
        of_ranks = self._gather_requests(requests)
        first = sum(len(of_rank) for of_rank in of_ranks[: self._tensor_parallel_rank()])
        all_requests = [request for of_rank in of_ranks for request in of_rank]
        with self._lock, _engine_errors(), self._awake(), _restored_random_state():
            own = self._sample(all_requests, sampling)[first : first + len(requests)]
            groups = [[self._completion(completion) for completion in output.outputs] for output in own]
        return sampling.with_copies(groups)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Stay awake between the `generate` in the body, so that a turn is read on from what the last one has computed."""
        with self._batch:
            self._is_in_rounds = True
            try:
                yield
            finally:
                self._is_in_rounds = False
            with self._lock:
                self._sleep()

    def update_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Load the weights one at a time, and drop what was computed with the old ones."""
        with self._batch, self._lock:
            self._wake()
            # Through the worker, and not into the model's parameters, which vLLM has repacked for the device.
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
            if not self._llm.reset_prefix_cache():
                raise EngineError("vLLM did not reset its prefix cache, so prompts would be read with the old weights.")
            self._version = version

    def close(self) -> None:
        """Stop vLLM and free its memory. A batch that another thread generates is cancelled."""
        self._is_closed.set()
        with self._lock:
            if self._llm is not None:
                self._vllm.stop()
            self._llm = None

    def _sample(self, requests: Sequence[Request], sampling: Sampling) -> list[Any]:
        """Return vLLM's outputs for the requests, in their order."""
        prompts = [{"prompt_token_ids": ids} for ids, _, _ in requests]
        parameters = [self._sampling_params(sampling, seed, most) for _, seed, most in requests]
        self._llm.enqueue(prompts, parameters, use_tqdm=False)
        outputs: list[Any] = []
        # Step by step instead of `LLM.generate`, so that a batch can be cancelled in between.
        while self._llm.llm_engine.has_unfinished_requests():
            self._check_open()
            outputs += [output for output in self._llm.llm_engine.step() if output.finished]
        return sorted(outputs, key=lambda output: int(output.request_id))

    def _check_open(self) -> None:
        if self._is_closed.is_set():
            raise EngineError("the vLLM engine is closed and accepts no more requests.")

    def _sampling_params(self, sampling: Sampling, seed: int, most: int) -> Any:
        parameters = sampling_params(
            sampling, seed=seed, max_new_tokens=most, stops=self._stops, vocab_size=self._vocab_size
        )
        return self._vllm.sampling_params(**parameters)

    def _completion(self, output: Any) -> Completion:
        ids = list(output.token_ids)
        logprobs = [entry[token].logprob for entry, token in zip(output.logprobs, ids, strict=True)]
        return Completion(ids, logprobs, output.finish_reason == "length", [self._version] * len(ids))

    def _gather_requests(self, requests: list[Request]) -> list[list[Request]]:
        """Return the requests of each rank that shares this engine. Every rank submits all of them and keeps its own."""
        if self._tensor_parallel_size == 1:
            return [requests]
        from vllm.distributed import get_tp_group

        of_ranks: list[Any] = [None] * self._tensor_parallel_size
        dist.all_gather_object(of_ranks, requests, group=get_tp_group().cpu_group)
        return of_ranks

    def _tensor_parallel_rank(self) -> int:
        return 0 if self._tensor_parallel_size == 1 else dist.get_rank() % self._tensor_parallel_size

    @contextmanager
    def _awake(self) -> Iterator[None]:
        self._wake()
        yield
        if not self._is_in_rounds:
            self._sleep()

    def _sleep(self) -> None:
        if self._vllm.sleeps and not self._is_asleep and self._llm is not None:
            # Level 1 keeps the weights on the host: another batch may come before new weights.
            self._llm.sleep(level=1)
            self._is_asleep = True

    def _wake(self) -> None:
        self._check_open()
        if self._is_asleep:
            if torch.cuda.is_available():
                # What the trainer's allocator holds without using it is not free for vLLM.
                torch.cuda.empty_cache()
            self._llm.wake_up()
            self._is_asleep = False


@contextmanager
def _engine_errors() -> Iterator[None]:
    """Turn vLLM's errors into an EngineError. Out of memory stays as it is: the trainer knows what to advise."""
    try:
        yield
    except (EngineError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise EngineError(
            f"vLLM failed to complete prompts: {one_line(error)} (--traceback shows where; "
            'engine = "transformers" samples without vLLM.)'
        ) from error


def _restored_random_state() -> Any:
    """Restore the process's random state: vLLM draws from it although every request has its own generator."""
    # Not in a thread beside the trainer's: the trainer may draw from it in the meantime.
    in_trainers_thread = threading.current_thread() is threading.main_thread()
    return random_state_of(0) if in_trainers_thread else nullcontext()


def _open(setup: EngineSetup) -> VllmEngine:
    table = setup.run_file.rollout
    # A run that samples while it trains never has a moment to put the engine to sleep.
    sleeps = table.max_staleness == 0
    return VllmEngine(table.vllm, setup.model, max_sequences=table.generation_batch_size, sleeps=sleeps)


IMPLEMENTATION = EngineImplementation(
    open=_open,
    packages=lambda run_file, is_main: ["vllm"],
    record=lambda run_file, engine: {"VLLM_PLUGINS": run_file.rollout.vllm.plugins},
)
