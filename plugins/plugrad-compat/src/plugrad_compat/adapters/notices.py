"""Notices: what a user should know of foreign code, said once a process."""

from __future__ import annotations

import logging
from functools import cache

logger = logging.getLogger("plugrad.compat")


@cache
def notice(text: str) -> None:
    """Say something once, however many instances find it."""
    logger.warning("%s", text)
