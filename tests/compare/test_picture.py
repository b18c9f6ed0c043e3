"""The curves: what is drawn, and that it can be read."""

import re
from io import StringIO
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from rich.console import Console

from plugrad.compare.curves import Curve, panels_of, smoothed
from plugrad.compare.picture import band, draw, spread_out
from plugrad.compare.summary import summarize

TWENTY = [float(step) for step in range(1, 21)]


def test_a_centred_mean_keeps_a_straight_line_and_is_shorter_at_the_ends():
    line = [(float(x), 2.0 * x) for x in range(9)]
    assert smoothed(line, 1) == line
    assert smoothed(line, 3)[1:-1] == line[1:-1]
    assert smoothed(line, 3)[0] == (0.0, 1.0)


def test_a_band_is_the_mean_least_and_greatest_where_all_seeds_are():
    xs, means, least, greatest = band(Curve("a", [[(1.0, 0.0), (11.0, 10.0)], [(3.0, 2.0), (13.0, 32.0)]]))
    assert (xs[0], xs[-1]) == (3.0, 11.0)
    assert (least[0], means[0], greatest[0]) == (2.0, 2.0, 2.0)
    assert (least[-1], means[-1], greatest[-1]) == pytest.approx((10.0, 18.0, 26.0))


@pytest.mark.parametrize("heights", [[0.5, 0.5, 0.5], [0.0, 0.01, 0.9], [0.97, 0.98, 0.99, 1.0], [0.2], [0.1, 0.5, 0.9]])
def test_labels_are_apart_in_their_order_and_inside(heights):
    placed = spread_out(heights, 0.1)
    assert placed == sorted(placed)
    assert all(upper - lower >= 0.1 - 1e-9 for lower, upper in pairwise(placed))
    assert placed[-1] <= 1.0
    if heights == [0.1, 0.5, 0.9]:
        assert placed == heights


def test_the_panels_are_against_steps_and_against_tokens(finished):
    summary = summarize([finished("a", 0, TWENTY), finished("b", 0, TWENTY, tokens=25)], "a")
    by_steps, by_tokens = panels_of(summary)
    assert [curve.seeds[0][-1][0] for curve in by_steps.curves] == [20, 20]
    assert [curve.seeds[0][-1][0] for curve in by_tokens.curves] == [200, 500]
    assert by_tokens.cut == 200


def test_the_picture_names_its_arms_and_says_what_line_and_band_are(finished, tmp_path):
    runs = [finished(arm, seed, [seed + step for step in TWENTY]) for arm in ("gspo", "cispo") for seed in range(3)]
    console = Console(width=80, record=True, file=StringIO())
    path = tmp_path / "curves.svg"
    assert draw(summarize(runs, "gspo"), path, "2 arms of run.toml, 3 seeds", console)
    text = path.read_text()
    for part in (">gspo<", ">cispo<", ">tokens sampled<", "line: mean of 3 seeds; band: minimum to maximum"):
        assert part in text
    assert "averaged over 2 steps" in text
    assert "2 arms of run.toml, 3 seeds" in text
    in_terminal = console.export_text()
    assert "gspo" in in_terminal
    assert max(map(len, in_terminal.splitlines())) <= 80


def test_the_picture_takes_the_colours_of_its_page_and_is_narrow_enough_for_a_phone(finished, tmp_path):
    runs = [finished(f"arm{number}", 0, TWENTY) for number in range(7)]
    path = tmp_path / "curves.svg"
    assert draw(summarize(runs, "arm0"), path, "7 arms", Console(width=80, file=StringIO()))
    text = path.read_text()
    # No colour but the arms' is there for a light page alone: not the last arm's, and none of the text.
    drawn = text.partition("</style>")[2]
    assert not re.search(r"#(000000|ffffff|123456|fedcba)", drawn)
    assert drawn.count('class="paper"') == 1
    assert "@media(prefers-color-scheme:dark)" in text
    assert "fill: currentColor" in text
    assert "stroke: currentColor; stroke-width: 1.6" in text
    (width,) = re.findall(r'<svg [^>]*viewBox="0 0 ([\d.]+) ', text)
    assert float(width) <= 480
    ElementTree.fromstring(text)


@pytest.mark.parametrize("rewards", [[1.0], []])
def test_of_a_single_step_there_is_no_curve(finished, tmp_path, rewards):
    assert not draw(summarize([finished("a", 0, rewards)], "a"), tmp_path / "curves.svg", "", Console())
    assert not (tmp_path / "curves.svg").exists()
