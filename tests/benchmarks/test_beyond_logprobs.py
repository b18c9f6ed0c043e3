"""The benchmark of critics, whole batches and teachers runs; its figures say nothing at this size."""

import subprocess
import sys
from pathlib import Path


def test_it_shows_every_case_and_the_goal() -> None:
    sizes = ["--hidden=16", "--steps=2", "--rounds=1"]
    command = [sys.executable, str(Path(__file__).with_name("beyond_logprobs.py")), *sizes]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for words in ("and a critic", "whole batch", "divergence", "at most 35 %"):
        assert words in shown
