"""Text of others in a message: short, printable, and never the cause of another error."""

import pytest

from plugrad import PlugradError
from plugrad.errors import did_you_mean
from plugrad.shown import LIMIT, escaped, printable, shown


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no")


class Red:
    def __repr__(self):
        return "<\x1b[31mred\x1b[0m>"


NESTED = []
for _ in range(100_000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "'plain'"),
        (0.1, "0.1"),
        ("red\x1b[31m", "'red\\x1b[31m'"),
        ("\ud800", "'\\ud800'"),
        (Red(), "<\\x1b[31mred\\x1b[0m>"),
        (Unspeakable(), "<Unspeakable that cannot be shown: RuntimeError>"),
        (10**5000, "<int that cannot be shown: ValueError>"),
        (NESTED, "<list that cannot be shown: RecursionError>"),
    ],
    ids=range(8),
)
def test_a_value_is_shown_as_python_writes_it_without_what_a_terminal_obeys(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    "value", ["x" * 10**6, b"x" * 10**6, ["x" * 10**6], {"x" * 10**6: 1}, list(range(10**5))], ids=range(5)
)
def test_a_long_value_is_cut_and_says_how_long_it_is(value):
    assert LIMIT < len(shown(value)) < LIMIT + 40
    assert shown(value).endswith(("characters)", "bytes)"))


def test_ordinary_text_of_any_language_stays():
    text = "ça va? \u3000日本語 \N{NO-BREAK SPACE}tab\tline\n"
    assert printable(text) == escaped(text) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb\x08", "a\\rb\\x08"),
        ("\u202e", "\\u202e"),
        ("\x00\x7f", "\\x00\\x7f"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, safe):
    assert printable(text) == escaped(text) == safe
    assert str(PlugradError(text)) == safe


@pytest.mark.parametrize("asked", ["GSPO", "gspo-token", "Gspo_Token", "gspo token", "GSPOtoken", "gsop"])
def test_a_name_is_suggested_whatever_its_case_and_dashes(asked):
    wanted = "gspo" if "oken" not in asked else "gspo_token"
    assert did_you_mean(asked, ["ppo_clip", "gspo", "gspo_token"]) == f" Did you mean {wanted!r}?"


def test_a_name_is_suggested_as_it_is_written():
    assert did_you_mean("myLoss", ["Other", "MyLoss", "my-loss"]) == " Did you mean 'MyLoss'?"
    assert did_you_mean("temp", ["Temperature"]) == " Did you mean 'Temperature'?"


def test_an_error_is_bounded_whatever_it_quotes():
    assert len(str(PlugradError("x" * 10**7))) < 1100
    assert str(PlugradError("\n" * 10**6)).count("\n") == 400
    assert did_you_mean("x" * 10**6, ["x" * 10**6]) == ""
