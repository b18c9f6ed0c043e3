"""Notices about foreign code, logged once per process."""

from __future__ import annotations

import logging
from functools import cache

logger = logging.getLogger("plugrad.compat")


@cache
def notice(text: str) -> None:
    """Log a notice once, however many instances raise it."""
    logger.warning("%s", text)
