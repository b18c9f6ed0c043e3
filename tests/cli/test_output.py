"""What a command prints: no escape sequence of others, in any encoding, and on a full disk an error of ours."""

import errno
import logging
import os
import sys

import pytest
import typer
from rich.table import Table
from rich.text import Text

from plugrad import ContractError
from plugrad.cli.reporting import reporting

HOSTILE = "\x1b]0;owned\x07\x1b[31m\x9b2J\r"


def test_nothing_printed_can_move_the_cursor(capsys):
    table = Table("a", "b")
    table.add_row(HOSTILE, Text(HOSTILE))
    with reporting() as console:
        console.print(HOSTILE)
        console.print(Text(HOSTILE), table, f"left {HOSTILE}")
        logging.getLogger("plugrad").warning("note %s", HOSTILE)
    written = capsys.readouterr()
    assert set(written.out + written.err) & set("\x1b\x07\x9b\r") == set()
    assert written.out.count("\\x1b[31m") >= 3
    assert "note \\x1b]0;owned" in written.err


def test_an_error_with_its_notes_and_the_traceback_of_its_plugin_is_as_harmless(capsys):
    error = ContractError(f"the loss raised {HOSTILE}")
    error.add_note(HOSTILE)
    error.__cause__ = ValueError(HOSTILE + "x" * 10**6)
    with pytest.raises(typer.Exit), reporting(show_traceback=True):
        raise error
    written = capsys.readouterr().err
    assert set(written) & set("\x1b\x07\x9b\r") == set()
    assert len(written) < 10_000


def test_a_full_disk_below_standard_output_is_an_error_of_ours(monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(typer.Exit) as end, reporting() as console:
            console.print("two lines\n" * 2)
    assert end.value.exit_code == 2
    assert "standard output cannot be written: [Errno 28]" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT])
def test_a_system_that_has_run_out_of_something_is_an_error_of_ours_wherever_it_shows(number, capsys):
    # As an import raises it that opens a file.
    outer = ImportError("cannot import")
    outer.__cause__ = OSError(number, os.strerror(number), "somewhere")
    with pytest.raises(typer.Exit) as end, reporting():
        raise outer
    assert end.value.exit_code == 2
    assert f"the system refuses to go on: [Errno {number}]" in capsys.readouterr().err


def test_an_error_that_nobody_expected_keeps_its_traceback():
    with pytest.raises(ValueError, match="a fault"), reporting():
        raise ValueError("a fault")
