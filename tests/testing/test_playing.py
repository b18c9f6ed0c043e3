"""The kit for environments with turns: each broken one is found by the check that is made for it, a correct one passes."""

import asyncio

import playing_environments
import pytest

from plugrad import PlayEnded
from plugrad.testing import Outcome, environment_checks, run_checks, scripted_policy
from plugrad.testing.environments import environment_trial

PORTABLE = {"import_effects", "pickles", "options_from_toml"}
OF_PLAYS = {"asks", "tool_calls", "examples_unchanged"}


def results(component):
    checks = environment_checks(component)
    return {result.check.name: result for result in run_checks([check for check in checks if check.name not in PORTABLE])}


def bad(found):
    return {name for name, result in found.items() if result.is_bad}


@pytest.mark.parametrize("name", playing_environments.BROKEN)
def test_a_broken_one_is_found_by_the_check_made_for_it(name, monkeypatch):
    monkeypatch.setattr(environment_trial, "LIMIT_S", 0.2 if name == "Hangs" else 60.0)
    target, expected = playing_environments.BROKEN[name]
    assert bad(results(target)) == expected


def test_every_check_of_plays_has_one_that_fails_it():
    assert set().union(*(names for _, names in playing_environments.BROKEN.values())) >= OF_PLAYS


def test_a_correct_one_passes():
    found = results(playing_environments.Doubles)
    assert not bad(found)
    assert found["runs"].seen == "8 training examples, 1 held out; scores from 0 to 1.1"
    assert found["asks"].seen == "1 to 2 replies"
    assert found["tool_calls"].seen == "3 odd calls of double, each survived"


def test_they_do_not_apply_to_one_that_scores():
    found = results("arithmetic")
    assert {found[name].outcome for name in OF_PLAYS} == {Outcome.NOT_APPLICABLE}


def test_a_scripted_policy_writes_what_a_test_says():
    policy = scripted_policy("4", "2", "3")
    [example, *_] = playing_environments.Doubles().train_examples()
    assert asyncio.run(playing_environments.Doubles().play(example, policy)) == {"right": 1.0, "quick": 0.0}
    assert policy.said == [("assistant", "4"), ("user", "no"), ("assistant", "2")]
    with pytest.raises(PlayEnded):
        asyncio.run(scripted_policy().chat("again").reply())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("IsNotAsynchronous", "Write it as 'async def play(self, example, policy)'"),
        ("SpeaksForThePolicy", "only the policy writes as the assistant"),
        ("AsksTwice", "Add a message first"),
        ("ShowsAnImage", "Images are not supported"),
        ("HasAToolWithoutADocstring", "a docstring with a line for each"),
        ("Raises", "no board"),
    ],
)
def test_it_is_told_what_is_wrong(name, told):
    target, _ = playing_environments.BROKEN[name]
    assert told in results(target)["runs"].seen
