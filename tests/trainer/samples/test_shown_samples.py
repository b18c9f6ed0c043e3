"""Samples in a terminal."""

import io
import json

import pytest
from rich.console import Console

from plugrad.trainer.record.display import LiveDisplay, PlainDisplay
from plugrad.trainer.samples.samples_file import SamplesFile, last_of_training
from plugrad.trainer.samples.shown_samples import num_shown, one_line, print_samples, spread

HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]:smile:[/]\x9b31m\u202e\r\n<eos>"


def sample(reward, completion="1", phase="evaluation", length=1):
    return {
        "step": 7, "phase": phase, "set": None, "prompt": "1+1=", "completion": completion, "reference": "2",
        "reward": reward, "length": length, "truncated": False,
    }  # fmt: skip


def turn(role, text, reward=None):
    return {"role": role, "text": text, "reward": reward, "length": 1}


def printed(samples, num=3, **console):
    file = io.StringIO()
    print_samples(samples, Console(file=file, width=200, **console), num)
    return file.getvalue()


def test_the_best_a_typical_one_and_the_worst_are_shown():
    lines = printed([sample(0.5, "middle"), sample(-1, "bad"), sample(1, "good")]).splitlines()
    assert lines[0].strip() == "Held-out examples, step 7"
    assert [line.split()[0] for line in lines[2:]] == ["best", "typical", "worst"]
    assert [line.split()[4] for line in lines[2:]] == ["good", "middle", "bad"]


def test_turns_are_told_apart_with_their_rewards():
    said = [turn("assistant", "up", 0.5), turn("user", "no"), turn("assistant", "down")]
    lines = [line.split() for line in printed([{**sample(1), "turns": said}]).splitlines()[2:]]
    assert lines == [["1", "1", "1+1=", "assistant", "(+0.5):", "up", "2"], ["user:", "no"], ["assistant:", "down"]]


def test_of_many_turns_the_first_and_the_last_are_shown():
    text = printed([{**sample(1), "turns": [turn("assistant", f"no {number}") for number in range(10)]}])
    assert [f"no {number}" in text for number in range(10)] == [True] * 3 + [False] * 4 + [True] * 3
    assert "... 4 more ..." in text


def test_a_play_that_failed_says_why_and_what_was_said():
    text = printed([{**sample(0, ""), "turns": [turn("assistant", HOSTILE)], "failed": "the board broke"}])
    assert "play failed: the board broke" in text
    assert r"assistant: \x1b[2J" in text


def test_where_all_have_one_reward_none_is_the_best():
    assert "best" not in printed([sample(1, "a"), sample(1, "b")])


def test_escape_sequences_and_markup_are_shown_and_not_obeyed():
    text = printed([sample(1, HOSTILE)], force_terminal=True, color_system=None)
    assert r"\x1b[2J\x1b]0;owned\x07[bold red]:smile:[/]\x9b31m\u202e\r\n<eos>" in text
    assert "\x07" not in text
    assert "\x1b[2J" not in text


def test_the_file_has_no_character_that_a_terminal_obeys(tmp_path):
    SamplesFile(tmp_path)([sample(1, HOSTILE, phase="training")])
    content = (tmp_path / "samples.jsonl").read_bytes()
    assert all(32 <= byte < 127 for byte in content.removesuffix(b"\n"))
    assert json.loads(content)["completion"] == HOSTILE
    assert last_of_training(tmp_path)[0]["completion"] == HOSTILE


def test_long_texts_keep_their_beginning_and_their_end():
    found = one_line("a" * 500 + "\n" + "b" * 500, 100)
    assert found == "a" * 50 + " ... " + "b" * 50


@pytest.mark.parametrize(("num", "rewards"), [(0, []), (1, [3]), (2, [5, 1]), (3, [5, 3, 1]), (9, [5, 4, 3, 2, 1])])
def test_they_are_spread_over_the_rewards(num, rewards):
    assert [each["reward"] for each in spread([sample(reward) for reward in (2, 5, 1, 4, 3)], num)] == rewards


def test_a_terminal_shows_three_and_a_pipe_none_unless_asked():
    terminal, pipe = Console(file=io.StringIO(), force_terminal=True), Console(file=io.StringIO())
    assert [num_shown(console, asked) for console in (terminal, pipe) for asked in (None, 5, 0)] == [3, 5, 0, 0, 5, 0]


@pytest.mark.parametrize("display_type", [LiveDisplay, PlainDisplay])
def test_a_display_shows_those_of_evaluations(display_type):
    file = io.StringIO()
    display = display_type(Console(file=file, width=200), 3)
    display.samples([sample(1, "trained", phase="training")])
    assert file.getvalue() == ""
    display.samples([sample(1, "evaluated")])
    assert "evaluated" in file.getvalue()


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"phase": 1}\n', b"[]\n"])
def test_a_file_that_was_lost_or_spoiled_shows_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "samples.jsonl").write_bytes(content)
    assert last_of_training(tmp_path) == []
