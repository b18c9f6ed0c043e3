"""Texts that a tokenizer cannot write are noticed, and no others."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from plugrad.policy.character_tokenizer import character_tokenizer
from plugrad.rollout.lacking import lacking


def examples(*texts):
    return [{"example_id": index, "prompt": text, "reference": "1"} for index, text in enumerate(texts)]


@pytest.fixture(scope="module")
def words():
    """Return a tokenizer of whole words."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "one": 1, "1": 2, "two": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def test_characters_that_become_the_unknown_token():
    found = lacking(examples("1+1", "one", "two"), character_tokenizer(["1+tw"]))
    assert (found.num_examples, found.first["example_id"], found.characters) == (2, 1, "eno")
    assert "lacks the characters 'eno' of 2 examples, the first of them 1" in str(found)


def test_characters_that_vanish():
    tokenizer = Tokenizer(models.BPE({"a": 0, "1": 1}, []))
    found = lacking(examples("a", "aba"), PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    assert (found.num_examples, found.characters) == (1, "b")


def test_one_example_among_many():
    texts = ["1+1"] * 500
    assert lacking(examples(*texts, "1+x"), character_tokenizer(["1+"])).num_examples == 1


def test_whole_words(words):
    assert lacking(examples("one two"), words) is None
    assert lacking(examples("one three"), words).num_examples == 1


def test_a_byte_level_tokenizer_lacks_nothing(byte_tokenizer):
    assert lacking(examples("plain", "na\u00efve \U0001f600 \u4e2d", "a  b\n"), byte_tokenizer()) is None


def test_the_unknown_token_itself_may_be_written():
    assert lacking(examples("<unk>"), character_tokenizer(["<unk>1"])) is None
