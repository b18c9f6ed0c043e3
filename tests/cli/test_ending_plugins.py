"""A plugin that ends the process: it never looks like success, and its name is told."""

import asyncio
import json
import os
import posix
import re
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
import typer

from plugrad.cli.reporting import reporting
from plugrad.host.calling import call_plugin
from plugrad.registry.blame import Blamed
from plugrad.registry.no_exit import no_exit_in_calls

sys.path.insert(0, str(Path(__file__).parent))
from ending import EXITS, RAISED

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


@pytest.mark.parametrize("how", EXITS)
def test_a_loss_that_calls_os_exit_is_named(train, how):
    done = train(selected("loss", "loss", how=how))
    assert done.returncode == 2, done.stderr
    assert f"raised SystemExit: os._exit({EXITS[how]}) (ending.py:" in done.stderr


def test_in_forked_processes_and_after_a_run_os_exit_is_as_ever(train):
    before = os._exit
    assert train(selected("loss", "loss", how="os._exit 0")).returncode == 2
    assert os._exit is before
    with no_exit_in_calls(), Blamed("mine", ValueError):
        process = os.fork()
        if process == 0:
            try:
                os._exit(5)
            finally:
                posix._exit(6)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 5


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
@pytest.mark.parametrize("how", ["exit 0", "interrupt", "os._exit 0"])
def test_wherever_it_is_raised(train, how, kind, name, options, named):
    done = train(selected(kind, name, how=how, **options))
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert ("os._exit(0)" if how in EXITS else type(RAISED[how]).__name__) in done.stderr


@pytest.mark.parametrize(("how", "told"), [("exit 0", "0"), ("os._exit 0", "os._exit(0)")])
def test_at_import(train, monkeypatch, how, told):
    monkeypatch.setenv("ENDS_AT_IMPORT", how)
    done = train(selected("loss", "loss", how="exit"))
    assert done.returncode == 2
    assert "the loss 'loss'" in done.stderr
    assert f"cannot be imported: SystemExit: {told}" in done.stderr


@pytest.mark.parametrize(("reward", "told"), [("reward", "0"), ("leaving_reward", "os._exit(0)")])
def test_in_a_reward_function(train, folder, reward, told):
    (folder / "lines.jsonl").write_text(json.dumps({"prompt": "1+1="}) + "\n")
    done = train(f"environment={{name='jsonl', kwargs={{path='lines.jsonl', reward='ending.py:{reward}'}}}}")
    assert done.returncode == 2
    assert f"ending.py:{reward} raised SystemExit: {told}" in done.stderr


@pytest.mark.parametrize(
    "override",
    [
        "loss={name='ending.py:loss', kwargs={how='exit 0', from_step=1}}",
        "loss={name='ending.py:loss', kwargs={how='os._exit 0', from_step=1}}",
        selected("extension", "Extension", how="exit 0", where="on_step_end"),
    ],
)
def test_after_the_first_step_the_model_is_saved_and_the_exit_code_is_1(train, folder, override):
    done = train(override)
    assert done.returncode == 1, done.stderr
    assert re.search(r"raised SystemExit: (0|os\._exit\(0\))", done.stderr)
    assert (folder / "runs" / "run" / "model" / "config.json").is_file()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("loss={name='ending.py:raising'}", "the loss 'raising' .*RudeError: <RudeError that cannot be shown: SystemExit>"),
        *((selected("environment", "RudeEnvironment", example=name), "Rude") for name in ("prompt", "id", "no prompt")),
        *(
            (selected("environment", "RudeEnvironment", score=kind), "the environment 'RudeEnvironment' .*cannot be shown")
            for kind in ("rude", "named", "metric", "raises")
        ),
    ],
)
def test_what_ends_the_process_when_it_is_shown(train, override, told):
    done = train(override)
    assert done.returncode == 2, done.stdout
    assert re.search(told, done.stderr), done.stderr


@pytest.mark.parametrize("example", ["column", "key"])
def test_what_nobody_shows_can_be_trained_with(train, example):
    done = train(selected("environment", "RudeEnvironment", example=example), "loss.name=ending.py:optional", "max_steps=1")
    assert done.returncode == 0, done.stderr


def test_an_error_that_cannot_be_shown_after_the_first_step(train, folder):
    done = train("loss={name='ending.py:raising', kwargs={from_step=1}}")
    assert done.returncode == 1, done.stderr
    assert "the loss 'raising'" in done.stderr
    assert "WorseError: <WorseError that cannot be shown: SystemExit>" in done.stderr
    assert (folder / "runs" / "run" / "model" / "config.json").is_file()


def test_an_option_that_cannot_be_shown(plugrad, train):
    done = plugrad("plugins", "show", "ending.py:optional", "--kind", "loss")
    assert done.returncode == 0, done.stderr
    assert "<Rude that cannot be shown" in done.stdout.replace("\n", " ")


def test_whatever_ends_a_command_is_an_error_of_the_code_that_did(capsys):
    with pytest.raises(typer.Exit) as end, reporting():
        raise SystemExit(0)
    assert end.value.exit_code == 2
    assert "ContractError: code of a plugin raised SystemExit: 0 (" in capsys.readouterr().err


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
        with pytest.raises(KeyboardInterrupt), Blamed("mine", lambda error: ValueError("blamed")):
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
