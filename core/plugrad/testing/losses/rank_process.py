"""One update with a loss, in a process: `python -m plugrad.testing.losses.rank_process FOLDER WHICH`.

WHICH is the number of a rank, for the trainer's update, or the word for the update by the formula.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import torch

from plugrad.testing.components import component_of
from plugrad.testing.losses.loss_trial import LossTrial
from plugrad.testing.losses.rank_task import BY_FORMULA, TASK, Task
from plugrad.testing.losses.update import update_by_hand, update_by_trainer
from plugrad.testing.trial_examples import columns_of_examples
from plugrad.trainer.ranks.rank_exit import run_as_rank
from plugrad.trainer.ranks.ranks import leave


def main(arguments: list[str]) -> None:
    """Take the update, and write it into the task's folder."""
    folder, which = Path(arguments[0]), arguments[1]
    torch.set_num_threads(1)
    task: Task = pickle.loads((folder / TASK).read_bytes())
    options = {name: value for name, value in task.options.items() if value is not None}
    loss = LossTrial(component_of(task.reference, "loss", options))
    with columns_of_examples(task.example):
        update = update_by_hand(loss) if which == BY_FORMULA else update_by_trainer(loss.fresh(), task.edges)
    (folder / f"{which}.pickle").write_bytes(pickle.dumps(update))
    if which != BY_FORMULA:
        leave()


if __name__ == "__main__":
    run_as_rank(lambda: main(sys.argv[1:]))
