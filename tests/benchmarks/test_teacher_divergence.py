"""The benchmark of the teacher divergence runs; its figures say nothing at this size."""

import subprocess
import sys
from pathlib import Path


def test_it_shows_memory_times_and_goals() -> None:
    sizes = ["--tokens=16", "--hidden=8", "--teacher-hidden=16", "--vocab=1000", "--rounds=2"]
    command = [sys.executable, str(Path(__file__).with_name("teacher_divergence.py")), *sizes]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for words in ("Peak memory", "fused, reverse", "dense, jsd", "3 sweeps", "at most 1.25 x 2 sweeps", "at most 0.1 of it"):
        assert words in shown
