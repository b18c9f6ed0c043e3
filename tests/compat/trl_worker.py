"""One rank of the test with TRL on two: `torchrun --nproc-per-node 2 trl_worker.py FOLDER OUT`."""

import os
import pickle
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "invariance"))

from recorded import NUM_PROMPTS, PER_PROMPT
from test_trl import their_updates

from plugrad.trainer.ranks.rank_exit import run_as_rank


def main(folder, out):
    torch.set_num_threads(1)
    rows = NUM_PROMPTS * PER_PROMPT // int(os.environ["WORLD_SIZE"])
    losses, gradients, _ = their_updates(folder, out, rows=rows, loss="gspo", advantage="rloo")
    (out / f"{os.environ['RANK']}.pickle").write_bytes(pickle.dumps((losses, gradients)))


if __name__ == "__main__":
    run_as_rank(lambda: main(Path(sys.argv[1]), Path(sys.argv[2])))
