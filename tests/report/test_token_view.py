"""What the token view holds, before a browser draws it."""

import json
import re

import pytest

from plugrad.report.captures_shown import fewer, token_tables_of
from plugrad.report.passed_over import PassedOver
from plugrad.report.token_view import shown_table, token_view_html


def test_numbers_that_json_does_not_have_are_none():
    table = {
        "sequences": [{"title": 1, "reward": "nan", "tokens": ["\x1b[2J"], "prompt_length": 0, "counted": [1], "marks": {}}]
    }
    table["sequences"][0]["values"] = {"ratio": [float("inf")], "mismatch": ["nan"], "entropy": [0.123456789]}
    sequence = shown_table(table)["sequences"][0]
    assert sequence["values"] == {"ratio": [None], "mismatch": [None], "entropy": [0.123457]}
    assert (sequence["title"], sequence["reward"], sequence["tokens"]) == ("1", None, ["\\x1b[2J"])


def test_the_data_end_no_element_early(token_table, escape):
    page = token_view_html(token_table)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1]
    assert json.loads(data)["tables"][0]["sequences"][0]["tokens"][9] == escape
    assert page.count("</script>") == 2


@pytest.mark.parametrize(("most", "kept"), [(100, 3), (4, 2), (2, 1), (0, 1)])
def test_a_large_table_is_cut_to_whole_sequences(most, kept):
    table, told = fewer({"sequences": [{"tokens": ["a", "b"]}] * 3}, most)
    assert len(table["sequences"]) == kept
    assert list(told) == ([f"The first {kept} of 3 sequences are shown."] if kept < 3 else [])


def test_a_run_without_captures_has_no_tables(copied):
    assert token_tables_of(copied, PassedOver()) == []
