"""Images in a tracker: `[height, width, 3]` from 0 to 255, as each tracker takes them."""

from __future__ import annotations

from typing import Any

from plugrad.trainer.tracking.run_picture import Image


def in_a_list(tracker: Any, name: str, image: Image, step: int) -> None:
    """Use Accelerate's tracker: of W&B and SwanLab."""
    tracker.log_images({name: [image]}, step=step)


def alone(tracker: Any, name: str, image: Image, step: int) -> None:
    """Use Accelerate's tracker: of ClearML and Aim, which take one image a name."""
    tracker.log_images({name: image}, step=step)


def in_tensorboard(tracker: Any, name: str, image: Image, step: int) -> None:
    """Say where the colours are, in a batch of one."""
    tracker.log_images({name: image[None]}, step=step, dataformats="NHWC")


def in_trackio(tracker: Any, name: str, image: Image, step: int) -> None:
    """Log an image of Trackio's."""
    import trackio

    tracker.log({name: trackio.Image(image)}, step=step)


def in_mlflow(tracker: Any, name: str, image: Image, step: int) -> None:
    """Keep it as an artifact of the run, which a run that goes on replaces."""
    import mlflow

    mlflow.log_image(image, artifact_file=f"{name}.png")


def in_comet(tracker: Any, name: str, image: Image, step: int) -> None:
    """Use the experiment: Accelerate's tracker has no images."""
    tracker.tracker.log_image(image, name=name, step=step)
