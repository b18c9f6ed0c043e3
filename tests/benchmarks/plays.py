"""What plays cost beside generating their tokens, and what it would save not to read a turn's prefix again."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from time import process_time
from typing import Any

import torch

from plugrad.host.environment import BoundEnvironment
from plugrad.rollout.engine import Completion, Prompt, Sampling
from plugrad.rollout.texts import Texts
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.rollout.turns.player import PlayLimits
from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.trainer.batch.playing import Playing

TURNS, PROMPT, GIVEN, REPLY = 4, 100, 20, 32
EXAMPLES, COPIES, REPEATS = 4, 4, 5
SAMPLING = Sampling(num_completions=COPIES, max_new_tokens=REPLY, temperature=1.0, seed=0)
MODELS: dict[str, dict[str, Any]] = {
    "hidden size 64, 2 layers": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
    "hidden size 256, 4 layers": {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4},
}
Call = tuple[Sequence[Prompt], Sampling]


class Talks:
    """Says something after each reply."""

    async def play(self, example: Any, policy: Any) -> float:
        """Take all turns."""
        chat = policy.chat(example["prompt"])
        for turn in range(TURNS):
            await chat.reply()
            chat.add("user", f"{turn}+" + "1" * (GIVEN - 2))
            await asyncio.sleep(0)
        return 1.0


class Noting(TransformersEngine):
    """Notes what it is asked for."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.calls: list[Call] = []

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Note it, and generate."""
        self.calls.append((prompts, sampling))
        return super().generate(prompts, sampling)


def main() -> None:
    """Print the figures of each model."""
    torch.set_num_threads(1)
    for name, fields in MODELS.items():
        engine = Noting(tiny_model(**fields), tiny_tokenizer(), 64)
        environment = BoundEnvironment("talks", Talks())  # type: ignore[arg-type]
        limits = PlayLimits(REPLY, TURNS, 2 * TURNS * (PROMPT + GIVEN + REPLY), 600.0)
        playing = Playing(engine, environment, Texts(tiny_tokenizer()), limits)
        examples = [{"example_id": n, "prompt": f"{n}+" + "1" * (PROMPT - 2)} for n in range(EXAMPLES)]
        playing.sample(examples, SAMPLING)
        calls = list(engine.calls)
        plain = TransformersEngine(tiny_model(**fields), tiny_tokenizer(), 64)
        plays, generating, reading, going_on = interleaved(
            lambda: playing.sample(examples, SAMPLING),  # noqa: B023
            lambda: [plain.generate(*call) for call in calls],  # noqa: B023
            lambda: [plain.generate(prompts, short(sampling)) for prompts, sampling in calls[1:]],  # noqa: B023
            lambda: [plain.generate(new(prompts), short(sampling)) for prompts, sampling in calls[1:]],  # noqa: B023
        )
        sys.stdout.write(
            f"{name}: {EXAMPLES * COPIES} plays of {TURNS} turns, {REPLY} tokens each at the most\n"
            f"  plays {plays:.2f} s of CPU, the same tokens alone {generating:.2f} s: {plays / generating:.3f} times\n"
            f"  reading what was read before: {(reading - going_on) / plays:.1%} of it\n"
        )


def interleaved(*acts: Callable[[], object]) -> list[float]:
    """Return the median CPU seconds of each."""
    seconds = [[_seconds(act) for act in acts] for _ in range(REPEATS + 1)][1:]
    return [median(column) for column in zip(*seconds, strict=True)]


def short(sampling: Sampling) -> Sampling:
    """Return sampling of a single token, which takes a pass over the prompt."""
    return replace(sampling, max_new_tokens=1)


def new(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return only as much of each prompt as came since the last turn."""
    return [replace(prompt, ids=prompt.ids[-GIVEN:]) for prompt in prompts]


def _seconds(act: Callable[[], object]) -> float:
    started = process_time()
    act()
    return process_time() - started


if __name__ == "__main__":
    main()
