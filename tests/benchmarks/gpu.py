"""The truth on a GPU, in one command that goes on where it stopped: a table for docs/performance.md, with anchors.

`python tests/benchmarks/gpu.py` measures training steps, log-probs, packing and a whole run, then runs the `gpu` tests.
After `--minutes` it stops; what is measured is in `--state`, and the next call goes on. It needs torch, Transformers,
Accelerate, PEFT and plugrad's light dependencies; plugrad itself is found beside this file. Where TRL is installed, its step
runs too. `--toy` takes tiny models, and a CPU if there is nothing else.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

if find_spec("plugrad") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "core"))

import torch
from gpu_table import written

from plugrad.trainer.record.utilisation import peak_bf16_tflops

HERE = Path(__file__).resolve().parent
MEASUREMENTS = [
    "run transformers",
    "head kernels trained", "head blocks trained", "head plain trained", "head products trained",
    "head kernels frozen", "head blocks frozen", "head plain frozen", "head products frozen",
    "step 0.6B fused", "step 0.6B fused lora", "step 0.6B TRL", "step 0.6B plain",
    "step 4B fused lora", "step 4B TRL lora", "step 0.6B TRL lora",
    "lengths padded", "lengths packed",
    "step 4B fused", "step 0.6B compiled",
]  # fmt: skip
"""The most wanted first."""
TESTS = "tests"
PACKAGES = ("torch", "triton", "transformers", "accelerate", "peft", "trl")
LONGEST_S = 240
"""Of one measurement. What takes longer has failed, and is not tried again."""


class State:
    """What has been measured on this device, on disk after each measurement."""

    def __init__(self, folder: Path, device: str, *, toy: bool) -> None:
        name = "".join(letter if letter.isalnum() else "-" for letter in device) + ("-toy" if toy else "")
        self.file, self.table = folder / f"{name}.json", folder / f"{name}.md"
        folder.mkdir(parents=True, exist_ok=True)
        self.found: dict[str, dict[str, Any]] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def keep(self, name: str, found: dict[str, Any]) -> None:
        """Write it down: whole, or not at all."""
        self.found[name] = {**found, "date": str(date.today())}
        beside = self.file.with_suffix(".new")
        beside.write_text(json.dumps(self.found, indent=1))
        beside.replace(self.file)


def main() -> None:
    """Measure what is missing until the time is up; then write and print the table."""
    arguments = _arguments()
    ends = monotonic() + 60 * arguments.minutes
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    state = State(_state_folder(arguments.state), device, toy=arguments.toy)
    heading = f"{device}, {date.today()}, {_versions()}"
    peak = arguments.peak_tflops or peak_bf16_tflops(torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    def finish(*_: object) -> None:
        table = written(heading, state.found, peak, [*_wanted(arguments.only), TESTS])
        state.table.write_text(table, encoding="utf-8")
        print(table, flush=True)

    def stopped(*_: object) -> None:
        finish()
        os._exit(1)

    # `timeout` ends it so.
    signal.signal(signal.SIGTERM, stopped)
    while missing := [name for name in _wanted(arguments.only) if name not in state.found]:
        if not _measure(missing, state, ends, toy=arguments.toy):
            break
    if TESTS not in state.found and monotonic() < ends and not (arguments.only or arguments.toy):
        _run_tests(state, ends)
    finish()


def _wanted(only: str | None) -> list[str]:
    names = [name for name in MEASUREMENTS if find_spec("trl") is not None or "TRL" not in name]
    return [name for name in names if only is None or name.startswith(only)]


def _measure(names: list[str], state: State, ends: float, *, toy: bool) -> bool:
    """Let one process measure until it or the time ends; return whether another one may go on."""
    command = [sys.executable, str(HERE / "gpu_worker.py"), *names, *(["--toy"] if toy else [])]
    began: list[tuple[str, float]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        for line in _lines(worker, lambda: min([ends, *(at + LONGEST_S for _, at in began)])):
            told = json.loads(line)
            if "begins" in told:
                began.append((told["begins"], monotonic()))
            else:
                print(line.strip(), flush=True)
                state.keep(told.pop("name"), told)
                began.clear()
        code = worker.wait()
    if began and monotonic() < ends and code != -signal.SIGTERM:
        name, at = began[0]
        why = f"longer than {LONGEST_S} s" if monotonic() > at + LONGEST_S else f"the process ended with {code}"
        state.keep(name, {"failed": why})
        return True
    # A process that ended before it began anything would do so again.
    return False


def _lines(worker: "subprocess.Popen[str]", until: Any) -> Iterator[str]:
    """Yield lines; kill the worker when the time is up."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            if monotonic() > until():
                worker.kill()
                return

    threading.Thread(target=watch, daemon=True).start()
    assert worker.stdout is not None
    yield from worker.stdout
    done.set()


def _run_tests(state: State, ends: float) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            command, cwd=HERE.parents[1], capture_output=True, text=True, check=False, timeout=ends - monotonic()
        )
    except subprocess.TimeoutExpired:
        return
    print(done.stdout[-4000:], flush=True)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
    state.keep(TESTS, {"told": last} if done.returncode in (0, 5) else {"failed": last})


def _state_folder(asked: Path | None) -> Path:
    """Return the folder. Where $OUT is what is carried back, begin there with what ./gpu-bench has brought."""
    beside, out = Path("gpu-bench"), os.environ.get("OUT")
    if asked is not None or not out:
        return asked or beside
    folder = Path(out) / "gpu-bench"
    if beside.is_dir() and not folder.exists():
        shutil.copytree(beside, folder)
    return folder


def _versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="tiny models")
    parser.add_argument("--minutes", type=float, default=7, help="after which it stops; the next call goes on")
    parser.add_argument("--state", type=Path, help="folder of what is measured; default: $OUT/gpu-bench, or ./gpu-bench")
    parser.add_argument("--only", help="measurements whose names begin so, such as head or 'step 4B'; no tests")
    parser.add_argument("--peak-tflops", type=float, help="of the device, dense bf16, where the table has none")
    return parser.parse_args()


if __name__ == "__main__":
    main()
