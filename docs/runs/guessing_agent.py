"""The game of guessing.py as an agent that knows nothing of plugrad: it has a base_url, and the openai package."""

from collections.abc import Mapping
from typing import Any

import openai
from guessing import LOST, MOST_GUESSES, QUESTION, feedback, worth

CLIENT = openai.OpenAI(base_url="http://localhost", api_key="unused")
"""Clients that are made from it share its connections: a client of one's own takes longer to make than a game."""


def main(example: Mapping[str, Any], base_url: str) -> dict[str, float]:
    """Play one game; return its reward."""
    client, messages = CLIENT.with_options(base_url=base_url), list[Any](QUESTION)
    for turn in range(1, MOST_GUESSES + 1):
        answer = client.chat.completions.create(model="policy", messages=messages, max_tokens=2)
        guess = answer.choices[0].message.content or ""
        if guess == example["number"]:
            return worth(turn)
        if answer.choices[0].finish_reason == "length":
            break
        told = {"role": "user", "content": feedback(guess, int(example["number"]))}
        messages += [{"role": "assistant", "content": guess}, told]
    return LOST
