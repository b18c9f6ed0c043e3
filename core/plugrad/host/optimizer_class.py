"""The class that `[optimizer] name` means: of torch.optim, of another package, or the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.optim import Optimizer

from plugrad.errors import PluginError, did_you_mean
from plugrad.registry.resolve import Source, resolve_own, search_modules_in
from plugrad.registry.resolve import load as load_source
from plugrad.shown import shown

PACKAGES = {"torchao": "torchao.optim", "bitsandbytes": "bitsandbytes.optim"}
"""The modules of packages that are named by the package alone."""
REFUSED = {
    "LBFGS": "its step computes the loss again and again (a closure), and an update of a run has one gradient",
    "SparseAdam": "it takes sparse gradients alone, and those of a language model are dense",
}
OF_TORCH = tuple(
    name
    for name, found in sorted(vars(torch.optim).items())
    if inspect.isclass(found) and issubclass(found, Optimizer) and found is not Optimizer and name not in REFUSED
)


def of_torch_alone(cls: type[Optimizer]) -> bool:
    """Return whether a class is PyTorch's own: all of those update each parameter by itself."""
    # Muon says "torch.optim" alone.
    return f"{cls.__module__}.".startswith("torch.optim.")


def find_optimizer(name: str, folders: Sequence[Path]) -> tuple[Source, type[Optimizer]]:
    """Find and import what `name` means: a class of torch.optim, `package:Class`, `module:Class` or `file.py:Class`.

    Raises:
        PluginError: there is none, its package is not installed, or it is no optimizer that a run can use.
    """
    if name in REFUSED:
        raise PluginError(f"the optimizer {name!r} (torch.optim) cannot train a policy: {REFUSED[name]}. {_known()}")
    source = _source(name, folders)
    search_modules_in(folders)
    found = load_source(source)
    if not (inspect.isclass(found) and issubclass(found, Optimizer)):
        raise PluginError(
            f"{source} is no optimizer: it is not a class that inherits from torch.optim.Optimizer. Point to one."
        )
    return source, found


def _source(name: str, folders: Sequence[Path]) -> Source:
    if name in OF_TORCH:
        return Source("optimizer", name, name, f"torch.optim:{name}")
    location, colon, attribute = name.rpartition(":")
    if not colon:
        raise PluginError(
            f"no optimizer is called {shown(name)}.{did_you_mean(name.rpartition('.')[2], OF_TORCH)} {_known()}"
        )
    package = location.partition(".")[0]
    if package in PACKAGES and find_spec(package) is None:
        raise PluginError(
            f"the optimizer {shown(name)} is of the package {package}, which is not installed. To install it: "
            f"pip install {package}"
        )
    source = resolve_own("optimizer", name, folders)
    return replace(source, target=f"{PACKAGES[location]}:{attribute}") if location in PACKAGES else source


def _known() -> str:
    return (
        f"torch.optim has {', '.join(OF_TORCH)}. Others are written torchao:Class or bitsandbytes:Class; your own "
        "module:Class or file.py:Class."
    )
