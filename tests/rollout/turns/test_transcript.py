"""A conversation as tokens: those that were sampled stay, and what the environment adds comes behind them."""

import pytest

from plugrad import ContractError
from plugrad.rollout.engine import Completion
from plugrad.rollout.texts import Texts
from plugrad.rollout.turns.transcript import Transcript

QUESTION = [{"role": "user", "content": "2+2?"}]
FORGETS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Drops the thoughts of earlier answers."""


@pytest.fixture
def begin(byte_tokenizer):
    """Begin a transcript; answer in it with a text, or with tokens."""

    def make(prompt, **settings):
        texts = Texts(byte_tokenizer(**settings))
        made = Transcript(texts, prompt)

        def reply(answer, *, truncated=False):
            made.prepare()
            ids = texts.tokens(answer) if isinstance(answer, str) else answer
            return made.close(Completion(ids, [-0.5] * len(ids), truncated, [0] * len(ids)))

        return made, reply, texts

    return make


def shown(transcript, texts):
    """Return each row with what was sampled in brackets."""
    lines = []
    for row in transcript.rows:
        line, inside = "", False
        for token, sampled in zip(row.ids, row.sampled, strict=True):
            line += "[" * (sampled and not inside) + "]" * (inside and not sampled) + texts.visible([token])
            inside = sampled
        lines.append(line + "]" * inside)
    return lines


def test_messages_are_added_behind_the_tokens_that_were_sampled(begin, chat_template):
    transcript, reply, texts = begin(QUESTION, chat_template=chat_template)
    assert reply("5<|im_end|>") == "5"
    transcript.add("user", "no")
    assert reply("4<|im_end|>") == "4"
    assert shown(transcript, texts) == [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n[5<|im_end|>]"
        "\n<|im_start|>user\nno<|im_end|>\n<|im_start|>assistant\n[4<|im_end|>]"
    ]


def test_a_cut_reply_is_ended_by_the_template(begin, chat_template):
    transcript, reply, texts = begin(QUESTION, chat_template=chat_template)
    reply("5 or", truncated=True)
    transcript.add("user", "?")
    reply("4", truncated=True)
    reply("!<|im_end|>")
    assert shown(transcript, texts) == [
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n[5 or]<|im_end|>\n"
        "<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n[4!<|im_end|>]"
    ]


def test_another_end_token_stays_where_it_was_sampled(begin, chat_template):
    transcript, reply, texts = begin(QUESTION, chat_template=chat_template)
    assert reply("5</s>") == "5"
    transcript.add("user", "no")
    reply("4<|im_end|>")
    [row] = shown(transcript, texts)
    assert row.endswith("assistant\n[5</s>]<|im_end|>\n<|im_start|>user\nno<|im_end|>\n<|im_start|>assistant\n[4<|im_end|>]")


def test_a_template_that_rewrites_what_came_before_begins_a_new_row(begin):
    transcript, reply, texts = begin(QUESTION, chat_template=FORGETS)
    reply("<think>hm</think>5<|im_end|>")
    transcript.add("user", "no")
    reply("4<|im_end|>")
    first, second = shown(transcript, texts)
    assert first.endswith("assistant\n[<think>hm</think>5<|im_end|>]")
    assert second == (
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n5<|im_end|>\n"
        "<|im_start|>user\nno<|im_end|>\n<|im_start|>assistant\n[4<|im_end|>]"
    )


def test_text_without_a_template_goes_on(begin):
    transcript, reply, texts = begin("2+2=", bos=True, adds_eos=True)
    assert reply("5</s>") == "5"
    transcript.add("user", " No. 2+2=")
    reply("4", truncated=True)
    assert shown(transcript, texts) == ["<s>2+2=[5</s>] No. 2+2=[4]"]


def test_tokens_that_are_no_whole_character_stay(begin, chat_template, byte_tokenizer):
    transcript, reply, texts = begin(QUESTION, chat_template=chat_template)
    half = texts.tokens("é")[:1]
    reply(half, truncated=True)
    transcript.add("user", "é")
    reply("4<|im_end|>")
    [row] = transcript.rows
    place = row.sampled.index(True)
    assert row.ids[place : place + 1] == half
    assert not row.sampled[place + 1]


def test_tokens_added_to_the_vocabulary_are_single_in_what_the_environment_writes(begin, chat_template):
    transcript, reply, texts = begin(QUESTION, chat_template=chat_template, special=("<tool>",))
    reply("5<|im_end|>")
    transcript.add("user", "<tool>")
    reply("4<|im_end|>")
    [row] = transcript.rows
    assert texts.tokens("<tool>")[0] in row.ids
    assert len(texts.tokens("<tool>")) == 1


def test_a_beginning_in_the_middle_is_not_doubled(begin, chat_template):
    transcript, reply, texts = begin(QUESTION, bos=True, chat_template="{{ bos_token }}" + chat_template)
    reply("5<|im_end|>")
    transcript.add("user", "<s>")
    reply("4<|im_end|>")
    [row] = shown(transcript, texts)
    assert row.count("<s>") == 2


def test_a_whole_reply_is_not_continued(begin, chat_template):
    _, reply, _ = begin(QUESTION, chat_template=chat_template)
    reply("5<|im_end|>")
    with pytest.raises(ContractError, match="Add a message first"):
        reply("4<|im_end|>")
