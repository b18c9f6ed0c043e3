"""Environments with turns: a correct one, and some that each break one promise."""

import asyncio
import random

from breaking import noted

BROKEN, breaks = noted()


def double(number: int) -> int:
    """Double a number.

    Args:
        number: the number.
    """
    return 2 * number


class Doubles:
    """A correct one: two tries, with a tool."""

    def train_examples(self):
        return [{"prompt": [{"role": "user", "content": f"{n}+{n}="}], "reference": str(2 * n)} for n in range(1, 9)]

    def eval_examples(self):
        return [{"prompt": [{"role": "user", "content": "9+9="}], "reference": "18"}]

    async def play(self, example, policy):
        chat = policy.chat(example["prompt"], tools=[double])
        for turn in range(2):
            reply = await chat.reply()
            chat.reward(0.0)
            if reply.text == example["reference"]:
                return {"right": 1.0, "quick": 0.1 * (turn == 0)}
            if not await chat.use_tools(reply):
                chat.add("user", "no")
        return {"right": 0.0, "quick": 0.0}


@breaks("runs")
class IsNotAsynchronous(Doubles):
    def play(self, example, policy):
        return 1.0


@breaks("runs")
class Yields(Doubles):
    async def play(self, example, policy):
        yield 1.0


@breaks("runs")
class IsNotANumber(Doubles):
    async def play(self, example, policy):
        await policy.chat(example["prompt"]).reply()
        return float("nan")


@breaks("runs")
class Raises(Doubles):
    async def play(self, example, policy):
        raise RuntimeError("no board")


@breaks("runs")
class SpeaksForThePolicy(Doubles):
    async def play(self, example, policy):
        chat = policy.chat(example["prompt"])
        chat.add("assistant", "42")
        return 0.0


@breaks("runs")
class AsksTwice(Doubles):
    async def play(self, example, policy):
        chat = policy.chat(example["prompt"])
        return float((await chat.reply()).text == (await chat.reply()).text)


@breaks("runs")
class ShowsAnImage(Doubles):
    async def play(self, example, policy):
        chat = policy.chat(example["prompt"])
        await chat.reply()
        chat.add("user", [{"type": "image_url", "image_url": "cat.png"}])
        return 0.0


@breaks("runs")
class HasAToolWithoutADocstring(Doubles):
    async def play(self, example, policy):
        await policy.chat(example["prompt"], tools=[lambda a: a]).reply()
        return 0.0


@breaks("runs")
class Hangs(Doubles):
    async def play(self, example, policy):
        await asyncio.Event().wait()


@breaks("asks")
class NeverAsks(Doubles):
    async def play(self, example, policy):
        return 1.0


@breaks("deterministic")
class Draws(Doubles):
    async def play(self, example, policy):
        return await super().play(example, policy) | {"luck": random.random()}


# All plays at once read what the last one wrote.
@breaks("score_alone", "score_order")
class KeepsItsPlayInItself(Doubles):
    async def play(self, example, policy):
        self.wanted = example["reference"]
        reply = await policy.chat(example["prompt"]).reply()
        return float(reply.text == self.wanted)


@breaks("odd_completions")
class ParsesReplies(Doubles):
    async def play(self, example, policy):
        reply = await policy.chat(example["prompt"]).reply()
        return float(int(reply.text) == int(example["reference"]))


@breaks("tool_calls")
class TrustsCalls(Doubles):
    async def play(self, example, policy):
        reply = await policy.chat(example["prompt"], tools=[double]).reply()
        for call in reply.tool_calls:
            double(call.arguments["number"])
        return 0.0


# A second instance has them as they were.
@breaks("examples_unchanged", "examples_stable")
class ChangesItsExamples(Doubles):
    def __init__(self):
        self.examples = super().train_examples()

    def train_examples(self):
        return self.examples

    async def play(self, example, policy):
        score = await super().play(example, policy)
        for known in self.examples:
            known["prompt"].append({"role": "user", "content": "again"})
        return score
