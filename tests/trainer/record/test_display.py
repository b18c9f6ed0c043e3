"""What one sees of a run, in a terminal and in a pipe."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from plugrad import RunFile
from plugrad.run import Run
from plugrad.run_result import RunResult
from plugrad.trainer.record.display import LiveDisplay, PlainDisplay, display_for, print_summary
from plugrad.trainer.record.metrics_file import MetricsFile
from plugrad.trainer.record.run_diff import Difference

RUN_FILE = RunFile.model_validate({"model": {"name": "x"}, "environment": {"name": "arithmetic"}, "max_steps": 3})
RECORDS = [
    {"step": 1, "reward": 0.25, "loss": 1.0, "tokens_per_s": 1234.5, "eval/reward": 0.5},
    {"step": 2, "reward": 0.5, "loss": 0.5, "tokens_per_s": 2000.0},
    {"step": 3, "reward": 0.75, "loss": 0.25, "tokens_per_s": 2000.0},
]


def shown(display_type, **console):
    file = io.StringIO()
    display = display_type(Console(file=file, highlight=False, **console))
    display.start(Run(RUN_FILE, Path("runs/mine"), 1), num_parameters=1000)
    for record in RECORDS:
        display.step(record)
    display.close()
    return file.getvalue()


def test_a_pipe_gets_plain_lines_with_the_first_and_the_last_step():
    lines = shown(PlainDisplay, width=200).splitlines()
    assert lines[0].startswith("mine: 1,000 parameters, 1 process; environment arithmetic")
    assert lines[1].startswith("step 1/3  reward 0.250  held-out 0.500  loss 1.000  tokens/s 1,234  0:00 left")
    # Step 2 came too soon after; the held-out reward stays until there is a newer one.
    assert lines[2:] == ["step 3/3  reward 0.750  held-out 0.500  loss 0.250  tokens/s 2,000"]


def screen(text):
    """Return the lines that a terminal shows in the end: it goes up, goes back, erases and overwrites as it is told."""
    lines, row, column = [""], 0, 0
    for code, letter, control, word in re.findall(r"\x1b\[([\d;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)", text):
        if letter == "A":
            row -= int(code or 1)
        elif letter == "K":
            assert code == "2"
            lines[row] = ""
        elif control == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif word:
            lines[row] = lines[row][:column].ljust(column) + word + lines[row][column + len(word) :]
        column = 0 if control else column + len(word)
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.parametrize("width", [40, 120])
def test_a_terminal_gets_one_line_that_moves(width):
    text = shown(LiveDisplay, force_terminal=True, width=width, legacy_windows=False)
    assert "0/3" in text, "the first frame, over which the later ones are written"
    *headline, last = screen(text)
    assert "".join(headline).startswith("mine: 1,000 parameters")
    assert not any("/3 " in line for line in headline)
    assert "3/3 reward 0.750" in last


def test_a_screen_that_was_written_line_by_line_shows_them_all():
    assert screen("a\nb\r\x1b[1A\x1b[2Kc\nd") == ["c", "d"]
    assert screen("1/3\n2/3\n3/3\n") == ["1/3", "2/3", "3/3"]


DIFFERENCES = [
    Difference("version of torch", "2.12.0", "2.13.0"),
    Difference("loss zigzag", "/far/" * 20 + "a.py:zigzag", None),
]


@pytest.mark.parametrize("terminal", [False, True])
def test_what_differs_is_listed(terminal):
    file = io.StringIO()
    console = Console(file=file, width=200, force_terminal=terminal, no_color=True, color_system=None)
    display_for(console).show_differences(Path("runs/first"), DIFFERENCES)
    first, head, *rows = file.getvalue().splitlines()
    assert first == "Differs from runs/first in 2 things:"
    assert head.split() == ["WHAT", "THEN", "NOW"]
    assert rows[0].strip().split("  ")[0] == "version of torch"
    assert rows[1].split()[-1] == "-"


def test_a_pipe_gets_what_differs_in_whole_lines():
    file = io.StringIO()
    PlainDisplay(Console(file=file, width=40)).show_differences(Path("runs/first"), DIFFERENCES)
    assert DIFFERENCES[1].then in file.getvalue()


def test_it_is_said_where_nothing_differs():
    file = io.StringIO()
    PlainDisplay(Console(file=file)).show_differences(Path("runs/first"), [])
    assert file.getvalue() == "Nothing differs from runs/first.\n"


def test_the_display_is_chosen_by_the_console():
    assert isinstance(display_for(Console(file=io.StringIO())), PlainDisplay)
    assert isinstance(display_for(Console(file=io.StringIO(), force_terminal=True)), LiveDisplay)


def test_the_summary_names_every_place_even_where_it_is_narrow(tmp_path):
    file = io.StringIO()
    metrics = MetricsFile(tmp_path)
    for record in RECORDS:
        metrics.write(record)
    result = RunResult(Path("/a/long/" * 10 + "run"), Path("/a/long/" * 10 + "run/model"), 3, 1.5, metrics.lines)
    print_summary(result, Console(file=file, width=40))
    assert str(result.model) in file.getvalue()
    assert "reward           0.250 -> 0.750" in file.getvalue()


def test_the_summary_lists_what_the_run_has_written(tmp_path):
    metrics = MetricsFile(tmp_path)
    for record in RECORDS:
        metrics.write(record)
    for name in ("model", "captures"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("not ours")
    file = io.StringIO()
    print_summary(RunResult(tmp_path, tmp_path / "model", 3, 1.5, metrics.lines), Console(file=file))
    assert f"run folder       {tmp_path}  (metrics.jsonl, captures/)\n" in file.getvalue()


def test_the_page_that_a_flat_run_names_has_the_questions():
    page = (Path(__file__).parents[3] / "docs" / "questions.md").read_text(encoding="utf-8")
    for question in ("Why is my reward flat?", "Why does my reward fall?", "Which learning rate should I take?"):
        assert f"### {question}\n" in page
