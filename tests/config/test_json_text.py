"""JSON that others wrote, with everything in it that JSON or Python does not take."""

import pytest

import plugrad
from plugrad import DataError, read_json_lines
from plugrad.json_text import half_of_a_pair, parse_json

MEGABYTE = "x" * 2**20
BAD = {
    "digits": ('{"a": ' + "9" * 5000 + "}", "has an integer of more digits than Python reads"),
    "negative digits": ('{"a": -' + "9" * 5000 + "}", "has an integer of more digits than Python reads"),
    "a float beyond": ('{"a": 1e999}', "has the number 1e999, which is beyond what a float can hold"),
    "a long float beyond": ('{"a": ' + "9" * 5000 + ".0}", "beyond what a float can hold"),
    "nested lists": ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "is nested too deeply"),
    "nested objects": ('{"a": ' * 100_000 + "1" + "}" * 100_000, "is nested too deeply"),
    "nested and cut": ("[" * 100_000, "is nested too deeply"),
    "NaN": ('{"a": NaN}', "has the number NaN, which JSON does not have"),
    "Infinity": ('{"a": [1, Infinity]}', "has the number Infinity"),
    "-Infinity": ('{"a": {"b": -Infinity}}', "has the number -Infinity"),
    "a key twice": ('{"a": 1, "b": 2, "a": 1}', "has the key 'a' twice"),
    "an inner key twice": ('{"a": [{"b": 1, "b": 2}]}', "has the key 'b' twice"),
    "a long key twice": (f'{{"{MEGABYTE}": 1, "{MEGABYTE}": 2}}', r"has the key 'xxx.* twice"),
    "a byte-order mark": ("\ufeff{}", "starts with a byte-order mark"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "byte-order mark of UTF-16"),
    "UTF-16, big": (b"\xfe\xff" + '{"a": 1}'.encode("utf-16-be"), "byte-order mark of UTF-16"),
    "UTF-16, bare": ('{"a": 1}'.encode("utf-16-le"), "has a NUL character, as a text in UTF-16 has"),
    "UTF-32": ('{"a": 1}'.encode("utf-32"), "byte-order mark of UTF-16 or UTF-32"),
    "Latin-1": ('{"a": "é"}'.encode("latin-1"), "is not UTF-8: byte 8 is 0xe9"),
    "NULs": ("\0" * 100, "has a NUL character"),
    "a surrogate in UTF-8": (b'{"a": "\xed\xa0\x80"}', "is not UTF-8"),
    "a megabyte": (MEGABYTE, "is not JSON: Expecting value at column 1"),
    "a string that does not end": (f'{{"a": "{MEGABYTE}', "is not JSON: Unterminated string starting at"),
    "a tab in a string": ('{"a": "\t"}', "is not JSON: Invalid control character at"),
    "two objects": ("{}{}", "is not JSON: Extra data at column 3"),
    "no JSON": ("{'a': 1}", "is not JSON"),
}
ALONE = {
    "a list": ("[1]", "is list; each line is one JSON object"),
    "a long list": (f'["{MEGABYTE}"]', "is list; each line is one JSON object"),
    "half of a pair": ('{"b": 1, "a": "\\ud800"}', "the column 'a' has half of a surrogate pair"),
    "half of a pair in a key": ('{"\\udc00": 1}', "has half of a surrogate pair"),
    "half of a pair in a message": ('{"a": [{"content": "\\uD83D!"}]}', "the column 'a' has half of a surrogate pair"),
}


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode()


@pytest.mark.parametrize(("text", "complaint"), BAD.values(), ids=BAD)
def test_a_text_that_is_no_json_is_refused_in_a_short_sentence(text, complaint):
    with pytest.raises(ValueError, match=f"the text .*{complaint}") as caught:
        parse_json(as_bytes(text), "the text")
    assert type(caught.value) is ValueError
    assert len(str(caught.value)) < 400


def test_what_json_may_hold_is_read_as_it_is():
    text = '{"a": [1, -2.5, 1e308, true, null, "\\ud83d\\ude00\u2028"], "b": {"a": ' + "9" * 4000 + "}}\n"
    found = parse_json(text)
    assert found["a"] == [1, -2.5, 1e308, True, None, "\U0001f600\u2028"]
    assert found["b"]["a"] == 10**4000 - 1
    assert parse_json(text.encode()) == found


@pytest.mark.parametrize(("text", "complaint"), (BAD | ALONE).values(), ids=BAD | ALONE)
@pytest.mark.parametrize("environment", ["jsonl", "plugrad-compat/trl"])
def test_a_line_of_examples_is_named_with_its_file(text, complaint, environment, tmp_path):
    if environment == "jsonl":
        options = {"path": tmp_path / "rows.jsonl", "reward": "math:sqrt"}
    else:
        pytest.importorskip("plugrad_compat")
        (tmp_path / "rewards.py").write_text("def reward(completions, **columns):\n    return [0.0 for _ in completions]\n")
        options = {"dataset": tmp_path / "rows.jsonl", "rewards": [f"{tmp_path}/rewards.py:reward"]}
    first = b"" if as_bytes(text)[:1] in b"\xef\xfe\xff" else b'{"prompt": "1", "reference": "2"}\n'
    (tmp_path / "rows.jsonl").write_bytes(first + as_bytes(text))
    number = 2 if first else 1
    with pytest.raises(DataError, match=rf"rows\.jsonl, line {number}:? .*{complaint}") as caught:
        plugrad.load("environment", environment, **options)
    assert len(caught.value.args[0]) < 600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\ud800b", "'a\\ud800b'"),
        ("x" * 100 + "\ud800", f"'...{'x' * 40}\\ud800'"),
    ],
)
def test_half_of_a_pair_is_shown_between_whole_words(text, words):
    assert half_of_a_pair({"a": [1, {"b": text}]}) == (
        f"half of a surrogate pair, which is no character and cannot be tokenized: {words}"
    )


def test_no_word_around_half_of_a_pair_is_cut():
    said = half_of_a_pair("one two " * 20 + "\ud800" + " three four" * 20)
    excerpt = said.partition(": ")[2].strip("'")
    assert excerpt.startswith("...")
    assert excerpt.endswith("...")
    assert {*excerpt.strip(".").split()} == {"one", "two", "\\ud800", "three", "four"}


@pytest.mark.parametrize("value", ["\U0001f600", {"a": [None, 1.5, b"\xed"]}, [], "", None])
def test_what_is_unicode_passes(value):
    assert half_of_a_pair(value) is None


def test_half_of_a_pair_is_found_however_deep():
    value = "\ud800"
    for _ in range(10**4):
        value = [value]
    assert half_of_a_pair(value)


def test_lines_are_numbered_and_empty_ones_are_skipped_if_asked(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "\u2028"}\r\n\n{"a": 2}\n')
    assert list(read_json_lines(path, skip_empty=True)) == [(1, {"a": "\u2028"}), (3, {"a": 2})]
    with pytest.raises(DataError, match="line 2 is empty: each line is one JSON object"):
        list(read_json_lines(path))
    path.write_text("")
    assert list(read_json_lines(str(path))) == []
