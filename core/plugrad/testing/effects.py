"""Run as `python -m plugrad.testing.effects KIND REFERENCE`: print the side effects of importing a component."""

from __future__ import annotations

import io
import json
import random
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, cast

import torch

from plugrad.registry.resolve import load, resolve, search_modules_in
from plugrad.registry.scan import Kind, scan

STATES: dict[str, Callable[[], Any]] = {
    "it changes the state of Python's random numbers": random.getstate,
    "it changes the state of torch's random numbers": lambda: torch.get_rng_state().tolist(),
    "it changes torch's default dtype": torch.get_default_dtype,
    "it changes torch's default device": lambda: str(torch.get_default_device()),
    "it turns gradients off": torch.is_grad_enabled,
    "it changes the number of threads": torch.get_num_threads,
    "it touches a CUDA device": torch.cuda.is_initialized,
    "it changes the state of NumPy's random numbers": lambda: repr(_numpy_state()),
}


def effects_of_import(kind: Kind, reference: str) -> list[str]:
    """Import a component for the first time and return what changed."""
    source = resolve(kind, reference, scan(), [Path.cwd()])
    search_modules_in([Path.cwd()])
    before = {effect: read() for effect, read in STATES.items()}
    with redirect_stdout(io.StringIO()) as printed:
        load(source)
    changed = [effect for effect, read in STATES.items() if read() != before[effect]]
    text = printed.getvalue().strip()
    return [*changed, *([f"it prints {text[:100]!r}"] if text else [])]


def _numpy_state() -> Any:
    import numpy as np

    return np.random.get_state()


def main(arguments: list[str]) -> None:
    """Print the effects for the process that asked."""
    kind, reference = arguments
    sys.stdout.write(json.dumps(effects_of_import(cast(Kind, kind), reference)))


if __name__ == "__main__":
    main(sys.argv[1:])
