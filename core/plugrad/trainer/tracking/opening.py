"""What each tracker is opened with: the arguments of Accelerate's class for it, from `[tracking]` and the run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Opening:
    """One tracker, as a run opens it."""

    folder: Path
    """Where it may keep files, in the run folder."""
    project: str
    name: str
    tags: Sequence[str] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Passed on, from `[tracking.kwargs.NAME]`."""
    goes_on: str | None = None
    """The id of the tracker's run that this run goes on with; None for a new one."""
    first_step: int = 0
    """How many steps were done."""


def tensorboard(opening: Opening) -> Arguments:
    """Write into the run folder. Of a run that goes on, steps after the checkpoint are shown no more."""
    purged = None if opening.goes_on is None else opening.first_step + 1
    return {"run_name": "tensorboard", "logging_dir": str(opening.folder), "purge_step": purged, **opening.kwargs}


def wandb(opening: Opening) -> Arguments:
    """Keep what is offline in the run folder."""
    return {**_under_an_id(opening), "dir": str(opening.folder), **opening.kwargs}


def trackio(opening: Opening) -> Arguments:
    """Go on by name: Trackio's runs are known by it."""
    resume = "never" if opening.goes_on is None else "allow"
    return {"run_name": opening.project, "name": opening.goes_on or opening.name, "resume": resume, **opening.kwargs}


def mlflow(opening: Opening) -> Arguments:
    """Give tags an empty value: MLflow's are pairs."""
    return {
        "experiment_name": opening.project,
        "run_name": opening.name,
        "run_id": opening.goes_on,
        "tags": dict.fromkeys(opening.tags, ""),
        **opening.kwargs,
    }


def swanlab(opening: Opening) -> Arguments:
    """Keep what is local in the run folder."""
    return {**_under_an_id(opening), "log_dir": str(opening.folder / "swanlab"), **opening.kwargs}


def clearml(opening: Opening) -> Arguments:
    """Let it follow nothing but what it is given: by itself it uploads every file that PyTorch saves."""
    return {
        "run_name": opening.project,
        "task_name": opening.name,
        "tags": list(opening.tags),
        "reuse_last_task_id": False,
        "continue_last_task": opening.goes_on or False,
        "auto_connect_frameworks": False,
        "auto_connect_arg_parser": False,
        **opening.kwargs,
    }


def comet_ml(opening: Opening) -> Arguments:
    """Choose the key here, so that an offline experiment has one too."""
    import comet_ml as comet

    config = comet.ExperimentConfig(
        name=opening.name,
        tags=list(opening.tags),
        offline_directory=str(opening.folder / "comet"),
        auto_metric_logging=False,
        auto_param_logging=False,
        parse_args=False,
    )
    return {
        "run_name": opening.project,
        "experiment_key": opening.goes_on or uuid4().hex,
        "mode": "create" if opening.goes_on is None else "get_or_create",
        "experiment_config": config,
        **opening.kwargs,
    }


def aim(opening: Opening) -> Arguments:
    """Use the repository in the working directory, as Aim does, unless another is given."""
    kwargs = {"capture_terminal_logs": False, **opening.kwargs}
    return {
        "run_name": opening.name,
        "logging_dir": kwargs.pop("repo", "."),
        "experiment": opening.project,
        "run_hash": opening.goes_on,
        **kwargs,
    }


def _under_an_id(opening: Opening) -> Arguments:
    """Return what W&B and SwanLab share. The id is chosen here, so that a run has one offline too."""
    return {
        "run_name": opening.project,
        "name": opening.name,
        "tags": list(opening.tags),
        # From the system: the run's own random states stay as they are.
        "id": opening.goes_on or uuid4().hex[:12],
        "resume": "allow",
    }


MakesArguments = Callable[[Opening], Arguments]
