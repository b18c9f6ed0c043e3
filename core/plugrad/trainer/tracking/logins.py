"""Whether a tracker that sends to a server can log in, asked before a model loads and without asking the user."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Kwargs = Mapping[str, Any]
HasLogin = Callable[[Kwargs], bool]

AWAY = ("offline", "disabled", "dryrun", "local")
"""Modes that send nothing."""


def not_needed(kwargs: Kwargs) -> bool:
    """Return True: the tracker writes into files, or says itself where it writes."""
    return True


def of_wandb(kwargs: Kwargs) -> bool:
    """Return whether W&B is offline, or has a key."""
    if str(kwargs.get("mode") or os.environ.get("WANDB_MODE")).lower() in AWAY:
        return True
    import wandb

    if "prompt" in inspect.signature(wandb.login).parameters:
        return bool(wandb.login(prompt=False))
    return bool(wandb.api.api_key)


def of_swanlab(kwargs: Kwargs) -> bool:
    """Return whether SwanLab is offline, or has a key."""
    mode = str(kwargs.get("mode") or os.environ.get("SWANLAB_MODE")).lower()
    saved = Path(os.environ.get("SWANLAB_SAVE_DIR", Path.home() / ".swanlab"))
    return mode in AWAY or bool(os.environ.get("SWANLAB_API_KEY")) or (saved / ".netrc").is_file()


def of_clearml(kwargs: Kwargs) -> bool:
    """Return whether ClearML is offline, or has credentials."""
    is_offline = os.environ.get("CLEARML_OFFLINE_MODE", "").lower() in ("1", "true", "yes", "on")
    if is_offline or os.environ.get("CLEARML_API_ACCESS_KEY"):
        return True
    return Path(os.environ.get("CLEARML_CONFIG_FILE", Path.home() / "clearml.conf")).is_file()


def of_comet(kwargs: Kwargs) -> bool:
    """Return whether Comet is offline, or has a key."""
    from comet_ml.config import get_config

    is_online = kwargs.get("online", os.environ.get("COMET_START_ONLINE", "1"))
    return str(is_online).lower() in ("0", "false") or bool(get_config("comet.api_key"))
