"""Plugins for runs in several processes. What goes wrong goes wrong on rank 1; outside a launcher there is no rank."""

import os
import posix
import random
import signal
import time
from pathlib import Path

import torch

from plugrad import AdvantageOutputs, hookimpl

RANK = os.environ.get("RANK")


def varied(inputs):
    """An advantage that differs between the rollouts of a group, whose completions are replayed and thus equal."""
    number = torch.arange(inputs.rewards.numel(), dtype=torch.double).reshape(inputs.rewards.shape)
    return AdvantageOutputs(torch.sin(number + inputs.completion_lengths) + inputs.rewards.mean())


class Who:
    """Leaves the number of its process in the run folder, and how many there are."""

    @hookimpl
    def on_run_start(self, run):
        assert (run.rank, run.is_main) == (int(RANK or 0), RANK in (None, "0"))
        (Path(run.folder) / f"rank_{RANK}").write_text(f"{os.getpid()} {run.num_ranks}")


class _InTheRun:
    """Misbehaves at an update of the run; the pre-flight's calls are those of another instance."""

    at_update = 2

    def __init__(self):
        self.calls = 0
        self.running = False

    @hookimpl
    def on_run_start(self, run):
        self.running = True

    @hookimpl
    def before_update(self):
        self.calls += self.running
        if self.calls == self.at_update:
            self.misbehave()


class RankOneRaises(_InTheRun):
    def misbehave(self):
        if RANK == "1":
            raise RuntimeError("rank one is unwell")
        # The other rank computes and looks at nothing: it would be at it for ten minutes.
        time.sleep(600)


class RankOneCrashes(_InTheRun):
    at_update = 1

    def misbehave(self):
        if RANK == "1":
            # As abort() in compiled code does, which no Python code sees.
            os.kill(os.getpid(), signal.SIGABRT)


class RankOneIsKilled(_InTheRun):
    def misbehave(self):
        if RANK == "1":
            os.kill(os.getpid(), signal.SIGKILL)


class RankOneLeaves(_InTheRun):
    def __init__(self, status: int = 0):
        super().__init__()
        self.status = status

    def misbehave(self):
        if RANK == "1":
            # As compiled code does it: Python's own os._exit raises an exception in a plugin.
            posix._exit(self.status)


class RankOneVetoes(_InTheRun):
    @hookimpl
    def before_update(self):
        return not (RANK == "1" and self.running)


class OtherExamples:
    """Draws its examples without a seed."""

    def train_examples(self):
        draw = random.SystemRandom()
        return [{"prompt": str(draw.random())} for _ in range(8)]

    def eval_examples(self):
        return []

    def score(self, rollouts):
        return [0.0 for _ in rollouts]


def another_option(inputs, scale: float = 1.0 if RANK == "1" else 2.0):
    return AdvantageOutputs(inputs.rewards * scale)
