"""Try a component with a time limit, a check that its inputs stay unchanged, a fixed seed, and a warning if it prints."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plugrad.host.calling import changed_in_place
from plugrad.host.printed import prints_reported
from plugrad.host.time_limit import time_limit
from plugrad.shown import text_of

REMEDY = "If it is only slow the first time, raise preflight_timeout_s."


@contextmanager
def on_trial(owner: str, given: Any, limit_s: float, may_write: Collection[str] = ()) -> Iterator[None]:
    """Call a component in the body, for the first time in this run.

    Args:
        owner: the component's name, for messages.
        given: its inputs: inputs, rollouts, or a list of these.
        limit_s: the time limit in seconds.
        may_write: keys of a rollout that the component may write.

    Raises:
        ContractError: the component hung, or changed its inputs.
    """
    before = _snapshot(given, may_write)
    with prints_reported(owner), time_limit(limit_s, owner, REMEDY):
        yield
    after = _snapshot(given, may_write)
    changed = next((name for name, value in before.items() if after.get(name) != value), None)
    if changed:
        raise changed_in_place(owner, changed[1])


@contextmanager
def random_state_of(seed: int) -> Iterator[None]:
    """Seed all random numbers in the body, and restore the random state of the process afterwards."""
    state, numpys = random.getstate(), np.random.get_state()
    # Only this rank's GPU. By default PyTorch takes every visible GPU, creates a context on each, and warns.
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpys)


def _snapshot(given: Any, leave_out: Collection[str]) -> dict[tuple[int, str], str]:
    """Return a text for each field of the inputs and each key of the rollouts. Texts compare for any kind of value."""
    parts = given if isinstance(given, list) else [given]
    return {
        (index, name): _text(value)
        for index, part in enumerate(parts)
        for name, value in (vars(part) if is_dataclass(part) else part).items()
        if name not in leave_out
    }


def _text(value: Any) -> str:
    return text_of(value.tolist() if isinstance(value, Tensor) else value, repr)
