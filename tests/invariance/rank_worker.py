"""One rank of the invariance tests: `torchrun --nproc-per-node 2 rank_worker.py SCENARIOS OUT`."""

import os
import pickle
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from scenario import accelerator_of, three_steps

from plugrad.errors import PlugradError
from plugrad.host.environment import BoundEnvironment
from plugrad.rollout.engine import Sampling
from plugrad.rollout.texts import Texts
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.rollout.turns.player import PlayLimits
from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.trainer.batch.failed_plays import check_failures
from plugrad.trainer.batch.playing import Playing
from plugrad.trainer.ranks.accelerate_config import make_accelerator
from plugrad.trainer.ranks.rank_exit import run_as_rank
from plugrad.trainer.ranks.ranks import Ranks, leave


class Fails:
    """Plays two turns on this rank; the first plays fail, and at the end the other rank is long done."""

    def __init__(self, num):
        self.left = num

    async def play(self, example, policy):
        chat = policy.chat(example["prompt"])
        await chat.reply()
        self.left -= 1
        if self.left >= 0:
            raise ValueError("no such move")
        chat.add("user", "+1=")
        await chat.reply()
        return 1.0


def outcome_of_plays(ranks, failing):
    """Play three times on each rank; return the error, and the rewards of all ranks."""
    tokenizer = tiny_tokenizer()
    environment = BoundEnvironment("the environment", Fails(failing[ranks.index]))
    limits = PlayLimits(max_new_tokens=2, max_turns=2, longest_row=64, seconds=60.0)
    playing = Playing(TransformersEngine(tiny_model(), tokenizer, 8), environment, Texts(tokenizer), limits)
    sampling = Sampling(num_completions=3, max_new_tokens=2, temperature=1.0, seed=ranks.index)
    groups = playing.sample([{"example_id": ranks.index, "prompt": "1+1="}], sampling)
    try:
        check_failures(groups, environment, ranks)
    except PlugradError as error:
        return str(error)
    return ranks.gather([rollout["reward"] for rollout in groups[0]])


def main(scenarios, out):
    torch.set_num_threads(1)
    ranks = Ranks.of(make_accelerator())
    results = {name: three_steps(scenario, accelerator_of(scenario), ranks) for name, scenario in scenarios.items()}
    failures = [outcome_of_plays(ranks, failing) for failing in ([3, 0], [3, 2], [3, 3], [0, 0])]
    (out / f"{ranks.index}.pickle").write_bytes(pickle.dumps((os.getpid(), ranks.count, results)))
    (out / f"{ranks.index}.failures.pickle").write_bytes(pickle.dumps(failures))
    leave()


if __name__ == "__main__":
    run_as_rank(lambda: main(pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])))
