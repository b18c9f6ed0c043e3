"""The benchmark of the log-probs runs; its figures say nothing at this size."""

import subprocess
import sys
from pathlib import Path


def test_it_shows_memory_times_and_goals() -> None:
    sizes = ["--tokens=16", "--hidden=8", "--vocab=1000", "--rounds=2"]
    command = [sys.executable, str(Path(__file__).with_name("logprobs.py")), *sizes]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for words in ("Peak memory", "fused, frozen head, entropy", "4 products", "at most 1.25 x 4", "What the entropy costs"):
        assert words in shown
