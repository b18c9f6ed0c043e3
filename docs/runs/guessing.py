"""A game of several turns: guess a number; after each guess the policy is told whether the number is higher or lower."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

HIGHEST, MOST_GUESSES = 7, 3
"""Whoever halves what is left finds each of seven numbers within three guesses."""
HEEDED = 0.3
"""How often the player of made-up games heeds what was said."""
QUESTION = [{"role": "user", "content": f"Guess a number from 1 to {HIGHEST}."}]


def feedback(guess: str, number: int) -> str:
    """Return what a guess that is not right is answered with."""
    if not guess.isdecimal():
        return "a number"
    return "higher" if int(guess) < number else "lower"


def worth(num_guesses: int) -> dict[str, float]:
    """Return the reward of a game that took so many guesses: 1, and something for each that was left."""
    return {"solved": 1.0, "saved": 0.1 * (MOST_GUESSES - num_guesses)}


LOST = {"solved": 0.0, "saved": 0.0}


class Guessing:
    """Find each number from 1 to 7 within three guesses."""

    def train_examples(self) -> Sequence[dict[str, Any]]:
        """Return one example for each number."""
        return [{"example_id": str(n), "prompt": QUESTION, "reference": str(n)} for n in range(1, HIGHEST + 1)]

    def eval_examples(self) -> Sequence[dict[str, Any]]:
        """Return all numbers, which no prompt tells."""
        return self.train_examples()

    async def play(self, example: Mapping[str, Any], policy: Any) -> dict[str, float]:
        """Play one game."""
        chat = policy.chat(example["prompt"])
        for turn in range(1, MOST_GUESSES + 1):
            reply = await chat.reply(max_new_tokens=2)
            if reply.text == example["reference"]:
                return worth(turn)
            if not reply.truncated:
                chat.add("user", feedback(reply.text, int(example["reference"])))
            else:
                break
        return LOST


def games(draw: random.Random, number: int) -> Iterator[dict[str, Any]]:
    """Yield the guesses of a player who seldom heeds what is said, each with what came before."""
    while number > 0:
        secret, messages, low, high = draw.randint(1, HIGHEST), list(QUESTION), 1, HIGHEST
        for _ in range(MOST_GUESSES):
            heeds = draw.random() < HEEDED
            guess = draw.randint(low, high) if heeds else draw.randint(1, HIGHEST)
            yield {"prompt": list(messages), "reference": str(guess)}
            number -= 1
            if guess == secret:
                break
            told = {"role": "user", "content": feedback(str(guess), secret)}
            messages += [{"role": "assistant", "content": str(guess)}, told]
            low, high = (max(low, guess + 1), high) if guess < secret else (low, min(high, guess - 1))
