"""Calls of tools in a reply, and what the policy is told of them."""

import asyncio

import pytest

from plugrad import ContractError
from plugrad.contracts.turns import ToolCall
from plugrad.host.tools import Tools
from plugrad.rollout.turns.tool_formats import calls_in, format_of


def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    Args:
        a: One.
        b: Another.
    """
    return a + b


async def slow(text: str) -> str:
    """Repeat a text.

    Args:
        text: What to repeat.
    """
    await asyncio.sleep(0)
    if text == "bad":
        raise ValueError("not that")
    return text * 2


ADD = ToolCall("add", {"a": 1, "b": 5})


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("hermes", 'So: <tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 5}}\n</tool_call>', [ADD]),
        ("hermes", '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 5}}', [ADD]),
        ("hermes", '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1, \\"b\\": 5}"}</tool_call>' * 2, [ADD, ADD]),
        ("hermes", "no call", []),
        ("llama", '<|python_tag|>{"name": "add", "parameters": {"a": 1, "b": 5}}; {"name": "add", "parameters": {}}',
         [ADD, ToolCall("add", {})]),
        ("llama", "It is 6.", []),
        ("json", '{"name": "add", "arguments": {"a": 1, "b": 5}}', [ADD]),
        ("json", 'Like this:\n```json\n{"name": "add", "arguments": {"a": 1, "b": 5}}\n```\n', [ADD]),
        ("json", "6", []),
    ],
)  # fmt: skip
def test_calls_are_read(byte_tokenizer, form, text, expected):
    assert calls_in(text, byte_tokenizer(), [], form) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('<tool_call>{"name": "add", </tool_call>', "not JSON"),
        ("<tool_call>[1]</tool_call>", 'an object with "name" and "arguments"'),
        ('<tool_call>{"name": 1}</tool_call>', 'an object with "name" and "arguments"'),
        ('<tool_call>{"name": "add", "arguments": 3}</tool_call>', "must be an object"),
        ('<tool_call>{"name": "add", "arguments": "{"}</tool_call>', "not JSON"),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", "nested too deeply"),
    ],
)
def test_a_call_that_cannot_be_read_says_why(byte_tokenizer, text, told):
    [call] = calls_in(text, byte_tokenizer(), [], "hermes")
    assert told in call.error


@pytest.mark.parametrize(
    ("written", "expected"),
    [("<tool_call>", "hermes"), ("<|python_tag|>", "llama"), ("{{ messages }}", "json"), (None, "json")],
)
def test_the_chat_template_shows_the_format(byte_tokenizer, written, expected):
    assert format_of(byte_tokenizer(chat_template=written)) == expected


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (ToolCall("add", {"a": 3}), ("5", True)),
        (ToolCall("slow", {"text": "é"}), ("éé", True)),
        (ToolCall("add", {"c": 3}), ("error: add: missing a required argument: 'a'", False)),
        (ToolCall("sub", {}), ("error: there is no tool 'sub'. The tools: add, slow", False)),
        (ToolCall("slow", {"text": "bad"}), ("error: ValueError: not that", False)),
        (ToolCall(error="this is no JSON"), ("error: this is no JSON", False)),
    ],
)
def test_what_the_policy_is_told(call, told):
    assert asyncio.run(Tools.of([add, slow]).answer(call)) == told


def test_a_tool_without_a_description_is_refused():
    def bare(x):
        return x

    with pytest.raises(ContractError, match="the tool bare cannot be described to a model"):
        Tools.of([bare])
