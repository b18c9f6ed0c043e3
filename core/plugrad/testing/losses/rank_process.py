"""Take the trainer's update with a loss; run as `python -m plugrad.testing.losses.rank_process TASK`, once per rank."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

import torch

from plugrad.testing.components import component_of
from plugrad.testing.losses.loss_trial import LossTrial
from plugrad.testing.losses.update import update_by_trainer
from plugrad.trainer.ranks.rank_exit import run_as_rank
from plugrad.trainer.ranks.ranks import leave


def main(task: str) -> None:
    """Take the update, and write it into the task's folder."""
    torch.set_num_threads(1)
    given = json.loads(task)
    options = {name: value for name, value in given["options"].items() if value is not None}
    loss = LossTrial(component_of(given["reference"], "loss", options))
    update = update_by_trainer(loss.fresh(), given["edges"])
    Path(given["out"], f"{os.environ['RANK']}.pickle").write_bytes(pickle.dumps(update))
    leave()


if __name__ == "__main__":
    run_as_rank(lambda: main(sys.argv[1]))
