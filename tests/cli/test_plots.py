"""Curves that cannot be drawn."""

import sys

from plugrad.cli.plots import write_curves
from plugrad.cli.reporting import reporting


def test_without_the_plotting_packages_a_message_names_the_extra(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "plotext", None)
    with reporting() as console:
        picture = write_curves(accuracy={}, reward=[], starts_at=0, path=tmp_path / "curves.svg", console=console)
    assert picture is None
    assert "pip install 'plugrad[plots]'" in capsys.readouterr().out
