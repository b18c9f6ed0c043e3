"""The peak of memory: this process's own, and what a step records of it."""

import subprocess
import sys

import pytest
import torch

from plugrad.trainer.record.memory import peak_memory_gib

PEAKS = """
import torch
from plugrad.trainer.record.memory import peak_memory_gib

print(peak_memory_gib(torch.device("cpu")))
block = torch.ones(2**28)
del block
print(peak_memory_gib(torch.device("cpu")))
"""
STARTED_BY_A_LARGE_PROCESS = """
import subprocess
import sys

block = bytearray(2 * 2**30)
block[::4096] = b"1" * len(block[::4096])
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""


def numbers_of(*arguments):
    done = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


def test_the_peak_stays_when_memory_is_given_back():
    before, after = numbers_of(PEAKS)
    assert after - before == pytest.approx(1.0, abs=0.1)


def test_the_peak_is_not_that_of_the_process_that_started_this_one():
    before, _ = numbers_of(STARTED_BY_A_LARGE_PROCESS, PEAKS)
    assert 0.05 < before < 1.5


def test_every_step_records_it(run):
    # The system counts a thread's pages in batches: the same peak is not the same number to the byte.
    for record in run().records:
        assert record["memory_gib"] == pytest.approx(peak_memory_gib(torch.device("cpu")), abs=0.05)
