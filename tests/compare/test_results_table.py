"""The table, in a terminal and in Markdown."""

from io import StringIO

import pytest
from rich.console import Console

from plugrad.compare.quantities import QUANTITIES
from plugrad.compare.results_table import as_markdown, as_text, columns_of
from plugrad.compare.summary import summarize


@pytest.fixture
def summary(finished):
    runs = [finished("base", 0, [0.5]), finished("base", 1, [0.7]), finished("mine", 0, [0.4]), finished("mine", 1, [0.4])]
    return summarize(runs, "base")


def cells(summary):
    return {column.heading: column.cells for column in columns_of(summary)}


def printed(summary, width):
    console = Console(width=width, record=True, file=StringIO())
    for table in as_text(summary, width):
        console.print(table)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_row_an_arm_with_its_spread_and_its_difference(summary):
    found = cells(summary)
    assert found["ARM"] == ["base", "mine"]
    assert found["REWARD"] == ["0.600 [0.500..0.700]", "0.400 [0.400..0.400]"]
    assert found["VS base"] == ["-", "-0.200 [-0.300..-0.100]"]


def test_numbers_that_nobody_has_are_no_column(summary):
    assert {"HELD-OUT", "MISMATCH", "ENTROPY"}.isdisjoint(cells(summary))


def test_of_three_seeds_there_is_a_standard_deviation(finished):
    found = cells(summarize([finished("a", seed, [0.1 * seed]) for seed in range(3)], "a"))
    assert found["REWARD"] == ["0.100 ± 0.100"]


def test_of_one_seed_the_spread_is_a_dash_and_no_zero(finished):
    found = cells(summarize([finished("a", 0, [0.5]), finished("b", 0, [0.5])], "a"))
    assert found["REWARD"] == ["0.500 ± -", "0.500 ± -"]
    assert found["VS a"] == ["-", "0.000 ± -"]


def test_an_arm_of_which_nothing_ended_well_keeps_its_row(finished, summary):
    missing = finished("lost", 0, [0.5])
    (missing.folder / "outcome.json").unlink()
    runs = [run.run for arm in summary.arms for run in arm.runs.values()]
    found = cells(summarize([*runs, missing], "base"))
    assert (found["ARM"][2], found["SEEDS"][2], found["REWARD"][2]) == ("lost", "0 of 1", "-")


@pytest.mark.parametrize("width", [40, 60, 80])
def test_it_is_cut_into_parts_and_no_cell_is(summary, width):
    lines = printed(summary, width)
    assert max(map(len, lines)) <= width
    for heading, column in cells(summary).items():
        assert any(heading in line for line in lines)
        assert all(any(cell in line for line in lines) for cell in column)
    assert sum(line.startswith("ARM ") for line in lines) > 1
    assert sum(line.startswith("ARM ") for line in printed(summary, 200)) == 1


def test_the_markdown_says_what_each_column_means(summary):
    text = as_markdown(summary, "2 arms of run.toml, 2 seeds")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({row.count("|") for row in rows}) == 1
    assert "| mine | 2 | 0.400 [0.400..0.400] | -0.200 [-0.300..-0.100] |" in text
    for heading in cells(summary):
        assert f"- **{heading}**: " in text


def test_every_quantity_says_how_it_is_computed():
    assert all(len(quantity.meaning.split()) > 1 for quantity in QUANTITIES)
