"""What bounds rollouts of several turns, and how tools are called, in the run file."""

import pytest

from plugrad import RunFileError
from plugrad.rollout.turns.tool_formats import FORMATS


def test_limits_of_plays_are_read(read):
    rollout = read("[rollout]\nmax_turns = 3\nmax_tokens = 200\nplay_seconds = 1.5\ntool_format = 'llama'\n").rollout
    assert (rollout.max_turns, rollout.max_tokens, rollout.play_seconds, rollout.tool_format) == (3, 200, 1.5, "llama")
    assert read().rollout.max_tokens is None


@pytest.mark.parametrize("name", ["auto", *FORMATS])
def test_each_format_of_tool_calls_has_a_name(read, name):
    assert read(f"[rollout]\ntool_format = '{name}'\n").rollout.tool_format == name


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("tool_format = 'qwen'", "rollout.tool_format.*'auto', 'hermes', 'llama' or 'json'"),
        ("max_turns = 0", "rollout.max_turns"),
        ("max_tokens = 0", "rollout.max_tokens"),
    ],
)
def test_what_cannot_be_is_refused(read, line, told):
    with pytest.raises(RunFileError, match=told):
        read(f"[rollout]\n{line}\n")
