"""One installed package that is bad breaks neither a run that does not select it, nor `list`, `show` and `doctor`."""

import importlib
import json
import os
import sys

import pytest
import torch

LOSS = """
from plugrad import LossOutputs

def zigzag(inputs):
    return LossOutputs(-(inputs.trainer_logprobs * inputs.advantages).sum())
"""
CALLS = "\ndef calls(inputs): return {}\n"
METRICS = {
    "exits at import": ("import sys; sys.exit(0)", "cannot be imported: SystemExit: 0"),
    "interrupts at import": ("raise KeyboardInterrupt", "cannot be imported: KeyboardInterrupt"),
    "sets the dtype at import": (
        "import torch; torch.set_default_dtype(torch.float64)" + CALLS,
        "set torch's default dtype to torch.float64",
    ),
    "switches gradients off at import": (
        "import torch; torch.set_grad_enabled(False)" + CALLS,
        "switched torch's gradients off",
    ),
    "leaves a thread": (
        "import threading\nend = threading.Event()\nthreading.Thread(target=end.wait, name='forgotten').start()" + CALLS,
        "left a thread running (forgotten)",
    ),
    "hangs at import": ("import time; time.sleep(600)", "did not return within 0.5 s"),
    "exits when called": ("def calls(inputs): raise SystemExit(0)", "raised SystemExit: 0"),
    "sets the dtype when called": (
        "import torch\ndef calls(inputs):\n    torch.set_default_dtype(torch.float64)\n    return {}",
        "set torch's default dtype to torch.float64",
    ),
    "has a lazy attribute that exits": ("def __getattr__(name): raise SystemExit(0)", "SystemExit: 0"),
    "has a signature that exits": (
        "class Signed:\n    def __call__(self, inputs): return {}\n"
        "    @property\n    def __signature__(self): raise SystemExit\ncalls = Signed()",
        "SystemExit",
    ),
}
SOURCES = {
    "nested signs": '"""About."""\nx = ' + "-" * 200_000 + "1\n",
    "nested brackets": '"""About."""\nx = ' + "[" * 200_000 + "\n",
    "a long sum": "x = 1" + "+1" * 50_000 + "\n",
    "nulls": "\0" * 100,
    "latin": "# \xe9".encode("latin-1"),
}
MARKERS = [
    "plugrad; nonsense == '1'",
    "plugrad; python_version ~= 'x'",
    "plugrad ; (",
    "plugrad >= ",
    "plugrad; extra ~= 'a'",
    "plugrad[" + "a" * 100_000,
]


WAITS = "import threading\nthreading.Thread(target=threading.Event().wait).start()" + CALLS


@pytest.fixture
def install(folder, monkeypatch):
    def make(name, points, code, requires=()):
        info = folder / "site" / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        lines = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{lines}")
        (info / "entry_points.txt").write_text(points)
        module = folder / "site" / f"{name.replace('-', '_')}.py"
        module.write_bytes(code if isinstance(code, bytes) else code.encode())
        if str(folder / "site") not in sys.path:
            monkeypatch.syspath_prepend(folder / "site")
        importlib.invalidate_caches()
        return info

    return make


@pytest.fixture
def good(install):
    install("good", "[plugrad.losses]\nzigzag = good:zigzag\n", LOSS)


def assert_commands_work(plugrad, folder):
    listed = plugrad("plugins", "list", "--json")
    assert listed.returncode == 0
    assert "zigzag" in {component["name"] for component in json.loads(listed.stdout)["components"]}
    assert plugrad("plugins", "list").returncode == 0
    assert plugrad("plugins", "show", "zigzag").returncode == 0
    assert plugrad("plugins", "doctor").stdout.startswith(("problem", "warning", "plugrad"))


@pytest.mark.parametrize("how", METRICS)
def test_a_metric_that_nobody_asked_for(plugrad, folder, install, good, how):
    code, message = METRICS[how]
    install("bad", "[plugrad.metrics]\ncalls = bad:calls\n", code)
    limit = ["--set", "preflight_timeout_s=0.5"] if "hangs" in how else []
    done = plugrad("train", "run.toml", "--set", "loss.name=zigzag", "--set", "max_steps=1", *limit)
    assert done.returncode == 0, done.stderr
    assert message in done.stderr
    assert "the metric 'calls' (bad 1.0)" in done.stderr
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    if "thread" in how:
        # Otherwise the tests themselves could not end.
        sys.modules["bad"].end.set()
    assert_commands_work(plugrad, folder)


def test_the_process_ends_though_such_a_thread_runs(folder, install, plugrad_process):
    install("bad", "[plugrad.metrics]\ncalls = bad:calls\n", WAITS)
    path = os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")])
    done = plugrad_process("train", "run.toml", "--set", "max_steps=1", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "left a thread running" in done.stderr


@pytest.mark.parametrize("how", SOURCES)
def test_a_source_that_cannot_be_parsed(plugrad, folder, install, good, how):
    install("bad", "[plugrad.metrics]\ncalls = bad:calls\n", SOURCES[how])
    assert_commands_work(plugrad, folder)


@pytest.mark.parametrize("requirement", MARKERS, ids=lambda text: text[:30])
def test_a_requirement_that_cannot_be_read(plugrad, folder, install, good, requirement):
    install("bad", "[plugrad.losses]\nother = bad:other\n", LOSS, requires=[requirement])
    assert_commands_work(plugrad, folder)
    assert plugrad("train", "run.toml", "--set", "loss.name=zigzag", "--set", "max_steps=1").returncode == 0


def test_a_source_that_is_a_named_pipe(plugrad, folder, install, good):
    install("bad", "[plugrad.losses]\nother = bad:other\n", LOSS)
    (folder / "site" / "bad.py").unlink()
    os.mkfifo(folder / "site" / "bad.py")
    assert_commands_work(plugrad, folder)


def test_a_name_that_300_packages_offer(plugrad, folder, install, good):
    for number in range(300):
        install(f"same{number}", "[plugrad.losses]\nsame = good:zigzag\n", LOSS)
    for arguments in (["list"], ["list", "--json"], ["doctor"], ["doctor", "--json"]):
        printed = plugrad("plugins", *arguments).stdout
        assert len(printed) < 400_000
        assert max(map(len, printed.splitlines())) < 1500
    done = plugrad("train", "run.toml", "--set", "loss.name=same")
    assert done.returncode == 2
    assert "300 packages offer the loss 'same'" in done.stderr
    assert "... and 294 more" in done.stderr
    assert len(done.stderr) < 1500
    assert_commands_work(plugrad, folder)
