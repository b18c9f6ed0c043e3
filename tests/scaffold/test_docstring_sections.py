"""What docstrings say, in the three styles that people write."""

import functools
import inspect

import pytest

from plugrad.scaffold.docstring_sections import sections_in, sections_of

GOOGLE = """
    A loss.

    L = r_t * A

    Args:
        a: first
            and on.
        *b (float): second: with a colon

    Reports:
        c: not an option.

    Source: somewhere.
    """
NUMPY = """
    A loss.

    L = r_t * A

    Parameters
    ----------
    a : float, optional
        first
        and on.
    *b
        second: with a colon

    Returns
    -------
    c : float
        not an option.
    """
SPHINX = """
    A loss.

    L = r_t * A

    :param float a: first
        and on.
    :param b: second: with a colon
    :type b: float
    :returns: c
    """


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_options_and_prose_in_every_style(text):
    sections = sections_in(inspect.cleandoc(text))
    assert sections.options == {"a": "first and on.", "b": "second: with a colon"}
    assert sections.prose.removesuffix("\n\nSource: somewhere.") == "A loss.\n\nL = r_t * A"


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("A loss.\nMore.", "A loss."),
        ("A loss that\nruns on\n\nMore.", "A loss that runs on"),
        ("A loss", "A loss"),
        ("", ""),
        ("Args:\n    a: b", ""),
        ("Parameters of nature: all of them.", "Parameters of nature: all of them."),
    ],
)
def test_the_summary_is_the_first_line_or_the_sentence_that_it_begins(text, summary):
    assert sections_in(text).summary == summary


def test_a_class_says_its_options_in_either_place_and_inherits_nothing():
    class Library:
        """A library's."""

    class Mine(Library):
        def __init__(self, a, b):
            """Start.

            Args:
                a: first
            """

    assert sections_of(Mine).prose == ""
    assert sections_of(Mine).options == {"a": "first"}


def test_a_function_with_options_bound_says_what_the_function_says():
    def mine(inputs, a=1):
        """A loss."""

    assert sections_of(functools.partial(mine, a=2)).prose == "A loss."
