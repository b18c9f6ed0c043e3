"""Needs that have options of their own."""

import math

import pytest

from plugrad import OptionError, TeacherDivergence


def test_a_divergence_is_a_value():
    assert TeacherDivergence("forward") == TeacherDivergence("forward", temperature=1, beta=0.5)
    assert len({TeacherDivergence("jsd"), TeacherDivergence("jsd", beta=0.5), TeacherDivergence("jsd", beta=0.3)}) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"kind": "foward"},
            "kind='foward'): unknown kind. Did you mean 'forward'? Write one of forward, reverse, jsd. See ",
        ),
        ({"kind": None}, "kind=None): unknown kind."),
        ({"temperature": 0}, "temperature=0): it divides logits: write a finite number above 0."),
        ({"temperature": -1.0}, "temperature=-1.0)"),
        ({"temperature": math.nan}, "temperature=nan)"),
        ({"temperature": math.inf}, "temperature=inf)"),
        ({"temperature": 10**400}, "temperature="),
        ({"temperature": "1"}, "temperature='1')"),
        ({"temperature": True}, "temperature=True)"),
        (
            {"beta": 0},
            "beta=0): the mixture is then one of the two distributions, and jsd is always 0. Write forward or reverse",
        ),
        ({"beta": 1.0}, "Write forward or reverse: "),
        ({"beta": 1.5}, "beta=1.5): it is the teacher's part of a mixture: write a number between 0 and 1."),
        ({"beta": math.nan}, "beta=nan)"),
        ({"beta": None}, "beta=None)"),
    ],
)
def test_a_wrong_option_is_named_with_the_remedy_and_the_line_that_asks(options, words):
    with pytest.raises(OptionError) as raised:
        TeacherDivergence(**{"kind": "jsd", **options})
    assert words in str(raised.value)
    assert f"See {__file__}, line " in str(raised.value)
