"""The special tokens around a prompt and at the end of a reference."""

import pytest

from plugrad.rollout.chat import unread_options
from plugrad.rollout.prompts import tokenize_prompts
from plugrad.rollout.stops import stop_ids
from plugrad.rollout.texts import Texts
from plugrad.testing import tiny_model

QUESTION = {"role": "user", "content": "2+2?"}
OPENED = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"


def tokens(tokenizer, prompt, **options):
    (made,) = tokenize_prompts([{"prompt": prompt}], tokenizer, room=None, **options)
    return tokenizer.decode(made.ids)


@pytest.mark.parametrize(
    ("settings", "prompt", "expected"),
    [
        ({"bos": True}, "hi", "<s>hi"),
        ({"bos": True}, "<s>hi", "<s>hi"),
        ({"bos": True}, "<s>hi</s>", "<s>hi</s>"),
        ({"bos": True}, "a<s>b", "<s>a<s>b"),
        ({"adds_eos": True}, "hi", "hi"),
        ({"adds_eos": True}, "hi</s>", "hi</s>"),
        ({"bos": True, "adds_eos": True}, "hi", "<s>hi"),
        ({"bos": True, "adds_eos": True}, "<s>hi", "<s>hi"),
        ({"bos": True, "adds_eos": True}, "</s>", "<s></s>"),
        ({"bos": True, "adds_eos": True}, "<s>", "<s>"),
        ({"bos": True, "adds_eos": True}, "", "<s>"),
        ({}, "hi", "hi"),
    ],
)
def test_a_prompt_has_one_beginning_and_no_end_that_the_tokenizer_adds(byte_tokenizer, settings, prompt, expected):
    assert tokens(byte_tokenizer(**settings), prompt) == expected


def test_the_rendered_template_is_a_string_prompt_with_one_beginning(byte_tokenizer, chat_template):
    tokenizer = byte_tokenizer(bos=True, adds_eos=True, chat_template="{{ bos_token }}" + chat_template)
    assert tokens(tokenizer, [QUESTION]) == tokens(tokenizer, "<s>" + OPENED) == "<s>" + OPENED


@pytest.mark.parametrize("content", ["The sum is ", "", "im_end", "<think>\n", "The sum is"])
def test_a_last_message_of_the_assistant_is_continued(byte_tokenizer, chat_template, content):
    tokenizer = byte_tokenizer(chat_template=chat_template)
    prompt = [QUESTION, {"role": "assistant", "content": content}]
    assert tokens(tokenizer, prompt) == OPENED + content
    assert prompt[-1]["content"] == content


def test_options_reach_the_chat_template(byte_tokenizer, chat_template):
    tokenizer = byte_tokenizer(chat_template=chat_template)
    assert tokens(tokenizer, [QUESTION], chat_template_kwargs={"enable_thinking": False}) == OPENED + "<think></think>"


def test_options_that_the_chat_template_does_not_read_are_found(byte_tokenizer, chat_template):
    tokenizer = byte_tokenizer(chat_template=chat_template)
    unread, read = unread_options(tokenizer, {"enable_thinking": False, "enable_thinkin": False, "tools": []})
    assert unread == ["enable_thinkin"]
    assert {"messages", "enable_thinking"} <= set(read)
    assert unread_options(byte_tokenizer(), {"enable_thinking": False}) == ([], [])


@pytest.mark.parametrize(
    ("template", "prompt", "reference", "expected"),
    [
        (None, "2+2?", "4", "4</s>"),
        (None, "2+2?", "4</s>", "4</s>"),
        ("chat", "2+2?", "4", "4</s>"),
        ("chat", [QUESTION], "4", "4<|im_end|>"),
        ("chat", [QUESTION], "4<|im_end|>", "4<|im_end|>"),
        ("chat", [QUESTION, {"role": "assistant", "content": "It is "}], "4", "4<|im_end|>"),
        ("{% for m in messages %}[{{ m.role }}] {{ m.content }} {{ eos_token }}{% endfor %}", [QUESTION], "4", "4 </s>"),
        ("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}", [QUESTION], "4", "4</s>"),
        ("{{ raise_exception('no') if messages|length > 1 }}{{ messages[0].content }}", [QUESTION], "4", "4</s>"),
    ],
)
def test_a_reference_ends_as_an_answer_does(byte_tokenizer, chat_template, template, prompt, reference, expected):
    tokenizer = byte_tokenizer(chat_template=chat_template if template == "chat" else template)
    ids = Texts(tokenizer).references({"prompt": prompt, "reference": reference}, 1)[0]
    assert tokenizer.decode(ids) == expected


def test_what_ends_a_turn_ends_a_completion(byte_tokenizer, chat_template):
    model, tokenizer = tiny_model(), byte_tokenizer(chat_template=chat_template)
    ends = stop_ids(model, tokenizer) - stop_ids(model, byte_tokenizer())
    assert tokenizer.convert_ids_to_tokens(sorted(ends)) == ["<|im_end|>"]
