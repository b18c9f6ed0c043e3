"""Run as `python -m plugrad.testing.losses.rank_process TASK`, once per rank: the trainer's update with a loss."""

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
    """Update, and leave the result in the task's folder."""
    torch.set_num_threads(1)
    said = json.loads(task)
    options = {name: value for name, value in said["options"].items() if value is not None}
    loss = LossTrial(component_of(said["reference"], "loss", options))
    update = update_by_trainer(loss.fresh(), said["edges"])
    Path(said["out"], f"{os.environ['RANK']}.pickle").write_bytes(pickle.dumps(update))
    leave()


if __name__ == "__main__":
    run_as_rank(lambda: main(sys.argv[1]))
