"""One rank of the invariance tests: `torchrun --nproc-per-node 2 rank_worker.py SCENARIOS OUT`."""

import os
import pickle
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from scenario import accelerator_of, three_steps

from plugrad.trainer.ranks.accelerate_config import make_accelerator
from plugrad.trainer.ranks.rank_exit import run_as_rank
from plugrad.trainer.ranks.ranks import Ranks, leave


def main(scenarios, out):
    torch.set_num_threads(1)
    ranks = Ranks.of(make_accelerator())
    results = {name: three_steps(scenario, accelerator_of(scenario), ranks) for name, scenario in scenarios.items()}
    (out / f"{ranks.index}.pickle").write_bytes(pickle.dumps((os.getpid(), ranks.count, results)))
    leave()


if __name__ == "__main__":
    run_as_rank(lambda: main(pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])))
