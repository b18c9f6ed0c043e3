"""The GPU benchmark runs at toy size, from a bare interpreter, and goes on where it stopped."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Bench = Callable[..., tuple[str, dict[str, Any]]]


def device_slug() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return "".join(letter if letter.isalnum() else "-" for letter in device)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    def run(*arguments: str) -> tuple[str, dict[str, Any]]:
        command = [sys.executable, str(Path(__file__).parent / "gpu.py"), "--toy", "--state", str(tmp_path), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        (file,) = tmp_path.glob("*-toy.json")
        return done.stdout, json.loads(file.read_text())

    return run


def test_a_toy_run_measures_what_is_missing_and_a_failure_costs_its_own_row(bench: Bench, tmp_path: Path) -> None:
    name = device_slug()
    step = {"seconds": 2.0, "gib": 3.0, "tokens": 4, "flops": 1e12, "parameters": 1}
    # To capture the compiled one takes long.
    known = {"step 0.6B fused": step, "step 0.6B compiled": step}
    (tmp_path / f"{name}-toy.json").write_text(json.dumps(known))
    shown, found = bench("--peak-tflops", "1")
    assert found["step 0.6B fused"] == known["step 0.6B fused"]
    assert "| 0.6B fused | 2 | 50.0% | 3.0 | 2,000.0 | prime-rl, one H100: 11.9k tok/s, 12.5 GiB |" in shown
    failed = {name for name, each in found.items() if "failed" in each}
    expected = set() if torch.cuda.is_available() else {"head kernels trained", "head kernels frozen"}
    assert failed == expected, {name: found[name] for name in failed}
    for row in ("head blocks trained", "step 4B fused lora", "lengths packed", "run transformers"):
        assert found[row]["seconds"] > 0
    assert (tmp_path / f"{name}-toy.md").read_text() in shown


def test_without_time_it_measures_nothing_and_says_so(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / f"{device_slug()}-toy.json").write_text("{}")
    shown, found = bench("--minutes", "0", "--only", "head")
    assert found == {}
    assert shown.count("not measured yet") >= 8
