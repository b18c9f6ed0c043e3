"""Prompts and references as token ids, and what cannot be one."""

import pytest

from plugrad import DataError, ModelError
from plugrad.rollout import chat
from plugrad.rollout.prompts import reference_texts, tokenize_completion, tokenize_prompts
from plugrad.testing import tiny_tokenizer

CHAT = [{"role": "user", "content": "2+2?"}]


def test_a_string_is_tokenized_as_it_is():
    tokenizer = tiny_tokenizer()
    (prompt,) = tokenize_prompts([{"prompt": "1+1="}], tokenizer, room=4)
    assert tokenizer.decode(prompt.ids) == prompt.text == "1+1="


def test_chat_messages_go_through_the_template():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[me]{% endif %}"
    )
    (prompt,) = tokenize_prompts([{"prompt": CHAT}], tokenizer, room=None)
    assert prompt.text == "[user]2+2?[me]"


def test_a_template_that_never_ends_is_an_error(monkeypatch):
    monkeypatch.setattr(chat, "TIMEOUT_S", 0.1)
    tokenizer = tiny_tokenizer()
    # The sandbox of Transformers bounds one loop, not one inside another.
    loop = "{% for i in range(99999) %}"
    tokenizer.chat_template = loop * 5 + "{% if false %}x{% endif %}" + "{% endfor %}" * 5
    with pytest.raises(DataError, match=r"the messages of example 7: it did not return within 0\.1 s\. A template takes"):
        tokenize_prompts([{"prompt": CHAT, "example_id": 7}], tokenizer, room=None)
    assert chat.turn_end(tokenizer, {}) is None


def test_what_a_template_and_a_prompt_say_is_shown_short_and_printable():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('\x1b[31m' + 'x' * 9) }}"
    hostile = [{"role": "user", "content": "\x1b[31m" + "x" * 10**6}]
    for prompt in (hostile, ["\x1b[31m" * 10**5]):
        with pytest.raises(DataError) as caught:
            tokenize_prompts([{"prompt": prompt, "example_id": "\x1b[31m" * 10**5}], tokenizer, room=None)
        (message,) = caught.value.args
        assert len(message) < 1000
        assert "\x1b" not in message


def test_chat_messages_without_a_template_are_an_error():
    with pytest.raises(ModelError, match=r"example 7 is a list of chat messages.*no chat template"):
        tokenize_prompts([{"prompt": CHAT, "example_id": 7}], tiny_tokenizer(), room=None)


@pytest.mark.parametrize("prompt", [3, ["not a message"], [{"role": "user"}]])
def test_a_prompt_that_is_neither(prompt):
    with pytest.raises(DataError, match="must be a string or chat messages"):
        tokenize_prompts([{"prompt": prompt, "example_id": 7}], tiny_tokenizer(), room=None)


def test_an_empty_prompt():
    with pytest.raises(DataError, match="example 7 is empty"):
        tokenize_prompts([{"prompt": "", "example_id": 7}], tiny_tokenizer(), room=None)


def test_a_prompt_that_is_too_long_is_an_error_with_both_numbers():
    with pytest.raises(DataError, match="example 7 has 4 tokens, but the model's context leaves 3"):
        tokenize_prompts([{"prompt": "1+1=", "example_id": 7}], tiny_tokenizer(), room=3)


def test_a_reference_ends_with_the_end_of_sequence_token():
    tokenizer = tiny_tokenizer()
    ids = tokenize_completion("42", {"prompt": ""}, tokenizer)
    assert ids == [*tokenizer("42")["input_ids"], tokenizer.eos_token_id]


def test_a_missing_reference_names_the_columns():
    with pytest.raises(DataError, match=r"example 7 has none \(columns: prompt, answer, example_id\)"):
        reference_texts({"prompt": "", "answer": "42", "example_id": 7}, 2)
