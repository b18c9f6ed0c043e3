"""The GPU benchmark runs at toy size, from a bare interpreter."""

import subprocess
import sys
from pathlib import Path


def test_a_toy_run_prints_a_row_for_each_way_to_the_logprobs() -> None:
    command = [sys.executable, str(Path(__file__).parent / "gpu.py"), "--toy", "--rounds", "2", "--peak-tflops", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[3].strip() for line in done.stdout.splitlines() if line.startswith("| toy")]
    assert rows[:2] == ["fused", "plain"]
