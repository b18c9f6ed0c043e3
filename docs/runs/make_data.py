"""Write the data sets of the run files beside this file: `python make_data.py`."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plugrad.standard.environments.arithmetic import Arithmetic

HERE = Path(__file__).parent
LETTERS = "abcdefghijklmnop"
PATTERNS = {
    "rising": sorted,
    "falling": lambda letters: sorted(letters, reverse=True),
    "doubled": lambda letters: [letter for letter in letters[:3] for _ in range(2)],
    "repeated": lambda letters: letters[:3] + letters[:3],
}


def patterns(draw: random.Random, number: int) -> Iterator[dict[str, Any]]:
    """Yield six letters each, of which the order alone tells the class."""
    for place in range(number):
        name = list(PATTERNS)[place % len(PATTERNS)]
        yield {"prompt": ":", "reference": "".join(PATTERNS[name](draw.sample(LETTERS, 6))), "pattern": name}


def pairs(draw: random.Random, sums: Any, wrong: int) -> Iterator[dict[str, Any]]:
    """Yield each sum with its answer and another number of as many digits, a few times."""
    for example in sums:
        answer = example["reference"]
        others = [number for number in map(str, range(2, 19)) if len(number) == len(answer) and number[::-1] != answer]
        for other in draw.sample(others, wrong):
            yield {"prompt": example["prompt"], "references": [answer, other[::-1]]}


def tasks(draw: random.Random, number: int, noise: float) -> Iterator[dict[str, Any]]:
    """Yield two tasks in turn: the next letter of each of four, and the one before, where some letters are made up."""
    for place in range(number):
        task, step = [("next", 1), ("before", -1)][place % 2]
        letters = draw.choices(LETTERS, k=4)
        answer = [LETTERS[(LETTERS.index(letter) + step) % len(LETTERS)] for letter in letters]
        if noise and task == "before":
            answer = [draw.choice(LETTERS) if draw.random() < noise else letter for letter in answer]
        yield {"prompt": f"{task[0]}{''.join(letters)}=", "reference": "".join(answer), "task": task}


def write(name: str, rows: Iterator[dict[str, Any]]) -> None:
    """Write a JSON-lines file."""
    (HERE / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    sums = Arithmetic(digits=1, reverse=True)
    write("patterns.jsonl", patterns(random.Random(0), 800))
    write("patterns_held_out.jsonl", patterns(random.Random(1), 200))
    write("pairs.jsonl", pairs(random.Random(0), sums.train_examples(), 6))
    write("pairs_held_out.jsonl", pairs(random.Random(1), sums.eval_examples(), 6))
    write("tasks.jsonl", tasks(random.Random(0), 1600, 0.5))
    write("tasks_held_out.jsonl", tasks(random.Random(1), 200, 0.0))
