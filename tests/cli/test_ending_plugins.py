"""A plugin that ends the process: it never looks like success, and its name is told."""

import asyncio
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest

from plugrad.host.calling import call_plugin
from plugrad.registry.blame import Blamed

sys.path.insert(0, str(Path(__file__).parent))
from ending import RAISED

HERE = Path(__file__).parent


@pytest.fixture
def train(plugrad, folder):
    shutil.copy(HERE / "ending.py", folder / "ending.py")

    def call(*overrides):
        return plugrad("train", "run.toml", *(word for override in overrides for word in ("--set", override)))

    return call


def selected(kind, name, **options):
    kwargs = ", ".join(f"{key}='{value}'" for key, value in options.items())
    table = f"{{name='ending.py:{name}', kwargs={{{kwargs}}}}}"
    return f"{kind}=[{table}]" if kind in ("metric", "extension") else f"{kind}={table}"


@pytest.mark.parametrize("how", RAISED)
def test_whatever_a_loss_raises_is_its_error(train, folder, how):
    done = train(selected("loss", "loss", how=how))
    assert done.returncode == 2, done.stderr
    assert f"the loss 'loss' ({folder / 'ending.py'}) raised {type(RAISED[how]).__name__}" in done.stderr
    assert "A plugin cannot end a run" in done.stderr
    assert not (folder / "runs").exists()


PLACES = [
    ("advantage", "advantage", {}, "the advantage 'advantage'"),
    ("metric", "metric", {}, "the metric 'metric'"),
    ("environment", "Environment", {}, "the environment 'Environment'"),
    ("environment", "Environment", {"where": "constructor"}, "the environment 'Environment'"),
    ("environment", "Environment", {"where": "train_examples"}, "the environment 'Environment'"),
    ("environment", "Environment", {"where": "eval_examples"}, "the environment 'Environment'"),
    ("environment", "Environment", {"where": "generator"}, "the environment 'Environment'"),
    ("extension", "Extension", {}, "the extension 'Extension'"),
    ("extension", "Extension", {"where": "compute_loss"}, "the extension 'Extension'"),
]


@pytest.mark.parametrize(("kind", "name", "options", "named"), PLACES, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("how", ["exit 0", "interrupt"])
def test_wherever_it_is_raised(train, how, kind, name, options, named):
    done = train(selected(kind, name, how=how, **options))
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert type(RAISED[how]).__name__ in done.stderr


def test_at_import(train, monkeypatch):
    monkeypatch.setenv("ENDS_AT_IMPORT", "1")
    done = train(selected("loss", "loss", how="exit"))
    assert done.returncode == 2
    assert "the loss 'loss'" in done.stderr
    assert "cannot be imported: SystemExit: 0" in done.stderr


def test_in_a_reward_function(train, folder):
    (folder / "lines.jsonl").write_text(json.dumps({"prompt": "1+1="}) + "\n")
    done = train("environment={name='jsonl', kwargs={path='lines.jsonl', reward='ending.py:reward'}}")
    assert done.returncode == 2
    assert "ending.py:reward raised SystemExit: 0" in done.stderr


@pytest.mark.parametrize(
    "override",
    [
        "loss={name='ending.py:loss', kwargs={how='exit 0', from_step=1}}",
        selected("extension", "Extension", how="exit 0", where="on_step_end"),
    ],
)
def test_after_the_first_step_the_model_is_saved_and_the_exit_code_is_1(train, folder, override):
    done = train(override)
    assert done.returncode == 1, done.stderr
    assert "raised SystemExit: 0" in done.stderr
    assert (folder / "runs" / "run" / "model" / "config.json").is_file()


def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    # The handler runs between two instructions.
    while True:
        pass


def test_the_users_ctrl_c_stays_the_users():
    with pytest.raises(KeyboardInterrupt):
        call_plugin("mine", interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_users_ctrl_c_stays_the_users_though_the_plugin_turns_it_into_another_exception():
    def hides_it():
        try:
            interrupted()
        except KeyboardInterrupt:
            raise SystemExit(0) from None

    with pytest.raises(KeyboardInterrupt):
        call_plugin("mine", hides_it)


def test_a_keyboard_interrupt_under_another_signal_handler_may_be_the_users(monkeypatch):
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        with pytest.raises(KeyboardInterrupt), Blamed(lambda error: ValueError("blamed")):
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_no_interrupt_is_the_users():
    found = []

    def in_thread():
        try:
            call_plugin("mine", lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
        except ValueError as error:
            found.append(str(error))

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert found[0].startswith("mine raised KeyboardInterrupt")


def test_a_coroutine_is_refused_with_the_reason():
    async def score():
        await asyncio.sleep(0)

    with pytest.raises(ValueError, match="mine returned coroutine: it is asynchronous, and nobody would await it"):
        call_plugin("mine", score)
