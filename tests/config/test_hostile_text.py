"""Values of a megabyte, and values with escape sequences: every message about them is short and harmless."""

import pytest

from plugrad import PlugradError, RunFile
from plugrad.config.override import Override
from plugrad.registry.bind import bind
from plugrad.registry.resolve import Source, resolve
from plugrad.registry.scan import scan

TABLES = {"model": {"name": "a/model"}, "environment": {"name": "arithmetic"}}
HOSTILE = ("x" * 10**6, "\x1b[31m\x9b2J" * 10, ["x" * 10**6], {"\x1b[31m" * 10**5: 1})


def mine(inputs, clip: float = 0.1): ...


def override(text):
    Override(text).apply({"seed": "x" * 10**6, "loss": [{"name": "\x1b[31m" * 10**5}] * 2})


def option(given):
    bind(Source("loss", "mine:mine", "mine", "mine:mine"), mine, given)


ATTEMPTS = {
    "a value": lambda text: RunFile(**TABLES, max_steps=text),
    "a choice": lambda text: RunFile(**TABLES, rollout={"engine": text}),
    "a key": lambda text: RunFile(**TABLES, **{str(text): 1}),
    "a key of a table": lambda text: RunFile(**TABLES, rollout={str(text): 1}),
    "a plugin not to use": lambda text: RunFile(**TABLES, plugins={"disable": [f"{text}/"]}),
    "a type as in prime-rl": lambda text: RunFile(**TABLES, loss={"type": text}),
    "a path as in prime-rl": lambda text: RunFile(
        **TABLES, loss={"type": "custom", "import_path": str(text).replace(":", "")}
    ),
    "an address": lambda text: RunFile(**TABLES, rollout={"server": {"addresses": [f"{text}"]}}),
    "an override without a value": lambda text: override(str(text)),
    "an override of a value": lambda text: override(f"seed.{text}=1"),
    "an override of two tables": lambda text: override(f"loss.{text}=1"),
    "an option": lambda text: option({"clip": text}),
    "the name of an option": lambda text: option({str(text): 1}),
    "a name": lambda text: resolve("loss", str(text), scan()),
    "a file": lambda text: resolve("loss", f"{text}.py:f", scan()),
    "a function": lambda text: resolve("loss", f"a.py:{text}", scan()),
}


@pytest.mark.parametrize("hostile", HOSTILE, ids=["long", "escapes", "list", "dict"])
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_message_is_short_and_harmless(attempt, hostile):
    with pytest.raises(PlugradError) as caught:
        ATTEMPTS[attempt](hostile)
    # The whole message, not what its `str` leaves of it.
    (message,) = caught.value.args
    assert len(message) < 2000
    assert not set(message) & set("\x1b\x9b")
