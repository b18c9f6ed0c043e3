"""A task with a tool: products that the policy cannot work out by itself, and a calculator that it may call."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

TOOLS = 'Tools: multiply. A call: <tool_call>{"name": "multiply", "arguments": {"a": 1, "b": 2}}</tool_call>'
"""What the chat template of make_model.py tells of the tool."""
MOST_REPLIES = 3
LOWEST, HIGHEST = 32, 99
"""Of the factors: all products have four digits."""


def multiply(a: int, b: int) -> int:
    """Multiply two whole numbers.

    Args:
        a: One of them.
        b: The other one.
    """
    return a * b


def question(a: int, b: int) -> dict[str, str]:
    """Return the message that asks for a product."""
    return {"role": "user", "content": f"What is {a} * {b}?"}


class Calculator:
    """Answer with the product of two numbers of two digits.

    Args:
        num_train: the number of products to train on.
        num_eval: the number of held-out products, which are among those to train on by chance alone.
    """

    def __init__(self, num_train: int = 2000, num_eval: int = 128) -> None:
        draw = random.Random(0)
        pairs = [(draw.randint(LOWEST, HIGHEST), draw.randint(LOWEST, HIGHEST)) for _ in range(num_train + num_eval)]
        examples = [{"prompt": [question(a, b)], "reference": str(a * b)} for a, b in pairs]
        self._train, self._eval = examples[:num_train], examples[num_train:]

    def train_examples(self) -> Sequence[dict[str, Any]]:
        """Return the products to train on."""
        return self._train

    def eval_examples(self) -> Sequence[dict[str, Any]]:
        """Return the held-out products."""
        return self._eval

    async def play(self, example: Mapping[str, Any], policy: Any) -> float:
        """Let the policy answer, and use the tool before."""
        chat = policy.chat(example["prompt"], tools=[multiply])
        for _ in range(MOST_REPLIES):
            reply = await chat.reply(max_new_tokens=24)
            if not await chat.use_tools(reply):
                return float(reply.text == example["reference"])
        return 0.0


def calculations(draw: random.Random, number: int) -> Iterator[dict[str, Any]]:
    """Yield replies of a policy that calls the tool as it should every other time.

    Else it forgets an argument, or guesses the product.
    """
    for _ in range(number):
        a, b = draw.randint(LOWEST, HIGHEST), draw.randint(LOWEST, HIGHEST)
        messages = [{"role": "system", "content": TOOLS}, question(a, b)]
        kind = draw.choices(["call", "wrong call", "guess"], [0.5, 0.2, 0.3])[0]
        guess = str(draw.randint(1024, 9801))
        arguments = {"a": a, "b": b} if kind == "call" else {"a": a}
        call = f"<tool_call>{json.dumps({'name': 'multiply', 'arguments': arguments})}</tool_call>"
        yield {"prompt": messages, "reference": guess if kind == "guess" else call}
        if kind != "guess":
            told = str(a * b) if kind == "call" else "error: multiply: missing a required argument: 'b'"
            answered = [{"role": "assistant", "content": call}, {"role": "tool", "content": told}]
            yield {"prompt": [*messages, *answered], "reference": told if kind == "call" else guess}
