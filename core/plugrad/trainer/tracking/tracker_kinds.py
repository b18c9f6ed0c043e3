"""The trackers by their names in `[tracking]`, which are Accelerate's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from plugrad.trainer.tracking import logged_images, logins, opening, sample_tables
from plugrad.trainer.tracking.run_picture import Image


@dataclass(frozen=True)
class Kind:
    """What plugrad knows about one tracker beside Accelerate's class for it."""

    package: str
    """What pip installs."""
    arguments: opening.MakesArguments
    opens: str
    """Where to find, as `module:object`, what takes the `kwargs`: their names are checked against its signature."""
    ours: tuple[str, ...]
    """Names among them that `[tracking]` or plugrad sets."""
    logs_samples: Callable[[Any, str, sample_tables.Rows, int], None]
    logs_image: Callable[[Any, str, Image, int], None]
    id_of: Callable[[Any], str]
    """Returns what the same run is opened with again, from Accelerate's tracker."""
    has_login: logins.HasLogin = logins.not_needed
    how_to_log_in: str = ""
    is_flat: bool = False
    """Whether its configuration is one table of numbers and texts."""
    configures_again: bool = True
    """Whether a run that goes on may change its configuration."""


KINDS: Mapping[str, Kind] = {
    "tensorboard": Kind(
        "tensorboard",
        opening.tensorboard,
        "torch.utils.tensorboard:SummaryWriter",
        ours=("log_dir", "purge_step"),
        logs_samples=sample_tables.in_tensorboard,
        logs_image=logged_images.in_tensorboard,
        id_of=lambda tracker: "tensorboard",
        is_flat=True,
        configures_again=False,
    ),
    "wandb": Kind(
        "wandb",
        opening.wandb,
        "wandb:init",
        ours=("project", "name", "tags", "config", "id", "resume"),
        logs_samples=sample_tables.by_logging_a_table,
        logs_image=logged_images.in_a_list,
        id_of=lambda tracker: str(tracker.tracker.id),
        has_login=logins.of_wandb,
        how_to_log_in="wandb login, or WANDB_MODE=offline in the environment",
    ),
    "trackio": Kind(
        "trackio",
        opening.trackio,
        "trackio:init",
        ours=("project", "name", "config", "resume"),
        logs_samples=sample_tables.in_trackio,
        logs_image=logged_images.in_trackio,
        id_of=lambda tracker: str(tracker.tracker.name),
    ),
    "mlflow": Kind(
        "mlflow",
        opening.mlflow,
        "accelerate.tracking:MLflowTracker",
        ours=("experiment_name", "run_name", "tags", "run_id"),
        logs_samples=sample_tables.in_mlflow,
        logs_image=logged_images.in_mlflow,
        id_of=lambda tracker: str(tracker.tracker.info.run_id),
        is_flat=True,
        configures_again=False,
    ),
    "swanlab": Kind(
        "swanlab",
        opening.swanlab,
        "swanlab:init",
        ours=("project", "name", "tags", "config", "id", "resume"),
        logs_samples=sample_tables.in_swanlab,
        logs_image=logged_images.in_a_list,
        id_of=lambda tracker: str(tracker.tracker.id),
        has_login=logins.of_swanlab,
        how_to_log_in="swanlab login, or SWANLAB_MODE=offline in the environment",
    ),
    "clearml": Kind(
        "clearml",
        opening.clearml,
        "clearml:Task.init",
        ours=("project_name", "task_name", "tags", "reuse_last_task_id", "continue_last_task"),
        logs_samples=sample_tables.by_logging_a_table,
        logs_image=logged_images.alone,
        id_of=lambda tracker: str(tracker.tracker.id),
        has_login=logins.of_clearml,
        how_to_log_in="clearml-init, or CLEARML_OFFLINE_MODE=1 in the environment",
    ),
    "comet_ml": Kind(
        "comet_ml",
        opening.comet_ml,
        "comet_ml:start",
        ours=("project", "project_name", "experiment_key", "experiment_config"),
        logs_samples=sample_tables.in_comet,
        logs_image=logged_images.in_comet,
        id_of=lambda tracker: str(tracker.tracker.get_key()),
        has_login=logins.of_comet,
        how_to_log_in="comet login, or COMET_START_ONLINE=0 in the environment",
        is_flat=True,
    ),
    "aim": Kind(
        "aim",
        opening.aim,
        "aim:Run",
        ours=("experiment", "run_hash"),
        logs_samples=sample_tables.in_aim,
        logs_image=logged_images.alone,
        id_of=lambda tracker: str(tracker.tracker.hash),
    ),
}
